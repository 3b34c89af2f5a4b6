"""What Bookinfo's services share: settings, the pod's name tag, calls to each other, and the server they run on.

It is copied into every image beside its service. It must not know any one service, and nothing of a mesh.
"""
