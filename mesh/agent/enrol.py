"""Getting a certificate: a new key, a request signed with it, the control plane's answer, the secret files.

Runs in a child process that ends afterwards, so that the agent, which stays, never loads TLS and cryptography.
"""

from mesh.agent.secrets import key_pair, trust, write_private, write_secret
from mesh.agent.settings import CERT_CHAIN, PRIVATE_KEY, ROOT, ROOT_CERT, SECRETS, TOKEN, Settings


def enrol(settings: Settings) -> float:
    """Writes fresh secrets. Returns when the certificate ends, in seconds since the epoch.

    Raises `mesh.client.MeshError` when the control plane refuses or does not answer.
    """
    from cryptography import x509  # noqa: PLC0415 - see the docstring of the module
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    from mesh.client import MeshClient  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(settings.identity)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    with MeshClient(f"https://{settings.ca_address}", TOKEN, ROOT_CERT) as client:
        signed = client.sign_certificate(
            request.public_bytes(serialization.Encoding.PEM).decode(), ttl_s=settings.cert_ttl_s
        )
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(SECRETS, trust(signed.root))
    write_secret(SECRETS, key_pair(pkcs8.decode(), signed.chain))
    for name, text in ((ROOT, signed.root), (PRIVATE_KEY, pkcs8.decode()), (CERT_CHAIN, "".join(signed.chain))):
        write_private(SECRETS / name, text)
    return signed.not_after.timestamp()
