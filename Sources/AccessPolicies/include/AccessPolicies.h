#pragma once
#include <stddef.h>

/// A file of acl/, as it was when this was built.
struct shipped_policy {
    const char *_Nonnull name;
    const unsigned char *_Nonnull bytes;
    size_t count;
};

/// The policy with that number; one without bytes behind the last.
struct shipped_policy shipped_policy(size_t number);
