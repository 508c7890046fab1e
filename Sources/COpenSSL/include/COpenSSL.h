#pragma once
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

// OpenSSL's macros that Swift does not import, a line each.

// Certificates.
#include <openssl/pem.h>
static inline EVP_PKEY *generate_ec_key(const char *curve) { return EVP_EC_gen(curve); }
static inline EVP_PKEY *generate_rsa_key(unsigned int bits) { return EVP_RSA_gen(bits); }
static inline void free_openssl_memory(void *memory) { OPENSSL_free(memory); }
static inline unsigned long rfc2253_name_flags(void) { return XN_FLAG_RFC2253; }
