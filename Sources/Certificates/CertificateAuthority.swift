internal import COpenSSL
internal import Cryptography
