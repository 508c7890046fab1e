#include "AccessPolicies.h"
