#pragma once
#include <stddef.h>

/// A file of `conformance/`, in the binary.
struct conformance_file {
    const char *name;
    const unsigned char *bytes;
    size_t count;
};

/// The file with that number, nothing (all zero) behind the last.
struct conformance_file conformance_file(size_t number);
