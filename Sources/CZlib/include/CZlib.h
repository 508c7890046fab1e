// zlib, and a line for its macro that Swift does not import.
#include <zlib.h>

/// `deflateInit2` for gzip's format (RFC 1952).
int begin_gzip(z_stream *stream, int level);
