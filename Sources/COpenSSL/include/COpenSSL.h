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
// For TLS (Transport).
static inline long ssl_ctx_set_mode(SSL_CTX *context, long mode) { return SSL_CTX_set_mode(context, mode); }
static inline int ssl_set_server_name(SSL *ssl, const char *name) { return (int)SSL_set_tlsext_host_name(ssl, name); }
static inline int ssl_ctx_set_min_version(SSL_CTX *context, int version) { return SSL_CTX_set_min_proto_version(context, version); }
static inline void ssl_ctx_disable_cache(SSL_CTX *context) { SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); }
static inline void ssl_ctx_set_read_ahead(SSL_CTX *context) { SSL_CTX_set_read_ahead(context, 1); }
static inline uint64_t ssl_no_renegotiation(void) { return SSL_OP_NO_RENEGOTIATION; }
static inline uint64_t ssl_no_compression(void) { return SSL_OP_NO_COMPRESSION; }
static inline uint64_t ssl_no_ticket(void) { return SSL_OP_NO_TICKET; }
static inline uint64_t ssl_server_preference(void) { return SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA; }
static inline uint64_t ssl_ignore_unexpected_eof(void) { return SSL_OP_IGNORE_UNEXPECTED_EOF; }
static inline int ssl_ctx_set_dh_auto(SSL_CTX *context) { return SSL_CTX_set_dh_auto(context, 1); }
static inline void *ssl_ctx_data(SSL *ssl) { return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), 0); }
static inline int sk_x509_name_count(const STACK_OF(X509_NAME) *names) { return sk_X509_NAME_num(names); }
static inline int sk_x509_crl_count(const STACK_OF(X509_CRL) *lists) { return sk_X509_CRL_num(lists); }
static inline X509_CRL *sk_x509_crl_at(const STACK_OF(X509_CRL) *lists, int index) { return sk_X509_CRL_value(lists, index); }
static inline void sk_x509_crl_free_all(STACK_OF(X509_CRL) *lists) { sk_X509_CRL_pop_free(lists, X509_CRL_free); }
static inline void sk_x509_name_free_all(STACK_OF(X509_NAME) *names) { sk_X509_NAME_pop_free(names, X509_NAME_free); }
static inline int x509_name_print_rfc2253(BIO *output, const X509_NAME *name) { return X509_NAME_print_ex(output, name, 0, XN_FLAG_RFC2253); }
static inline long bio_memory(BIO *memory, char **bytes) { return BIO_get_mem_data(memory, bytes); }
static inline int is_system_error(unsigned long code) { return ERR_SYSTEM_ERROR(code); }
static inline int error_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline int error_library(unsigned long code) { return ERR_GET_LIB(code); }
