"""From Envoy v3 protobufs to the plain objects that the data path runs on.

Pure functions: MUST NOT do I/O beyond reading the certificate files that a static TLS context names, and MUST refuse
(`Refused`, with the field's path) what the data path would not honour. Each module holds the table of the fields that
it supports beside the code that reads them.
"""
