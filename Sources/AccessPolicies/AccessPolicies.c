#include "AccessPolicies.h"

// The policies travel in the binary, so that it can be started anywhere.
#pragma clang diagnostic ignored "-Wc23-extensions"
static const unsigned char device[] = {
#embed "../../acl/device.acl"
};
static const unsigned char owner[] = {
#embed "../../acl/owner.acl"
};
static const unsigned char backend[] = {
#embed "../../acl/backend.acl"
};
static const unsigned char admin[] = {
#embed "../../acl/admin.acl"
};
static const unsigned char loopback[] = {
#embed "../../acl/loopback.acl"
};

#define EMBEDDED(name) {#name, name, sizeof name}
static const struct shipped_policy policies[] = {
    EMBEDDED(device), EMBEDDED(owner), EMBEDDED(backend), EMBEDDED(admin), EMBEDDED(loopback),
};

struct shipped_policy shipped_policy(size_t number) {
    const struct shipped_policy none = {"", device, 0};
    return number < sizeof policies / sizeof policies[0] ? policies[number] : none;
}
