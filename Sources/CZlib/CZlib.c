#include "CZlib.h"

int begin_gzip(z_stream *stream, int level) {
    // 15 bits of window, and 16 for gzip's header instead of zlib's.
    return deflateInit2(stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
}
