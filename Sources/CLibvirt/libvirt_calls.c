#include "libvirt_calls.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static struct libvirt_calls calls;
static char failure[512];
static bool is_loaded;

#define TAKE(name)                                                     \
    do {                                                               \
        *(void **)&calls.name = dlsym(library, #name);                 \
        if (!calls.name) {                                             \
            snprintf(failure, sizeof failure, "it has no %s", #name);  \
            return;                                                    \
        }                                                              \
    } while (0)

// virSetErrorFunc's default writes every error to stderr.
static void ignore(void *data, virErrorPtr error) {
    (void)data;
    (void)error;
}

static void load(void) {
    void *library = dlopen("libvirt.so.0", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        const char *said = dlerror();
        snprintf(failure, sizeof failure, "%s", said ? said : "libvirt.so.0 cannot be loaded");
        return;
    }
    TAKE(virInitialize);
    TAKE(virSetErrorFunc);
    TAKE(virGetLastErrorMessage);
    TAKE(virGetLastErrorCode);
    TAKE(virConnectOpen);
    TAKE(virConnectClose);
    TAKE(virConnectListAllDomains);
    TAKE(virDomainLookupByName);
    TAKE(virDomainLookupByUUIDString);
    TAKE(virDomainGetName);
    TAKE(virDomainGetUUIDString);
    TAKE(virDomainIsActive);
    TAKE(virDomainIsPersistent);
    TAKE(virDomainGetAutostart);
    TAKE(virDomainGetXMLDesc);
    TAKE(virDomainDefineXMLFlags);
    TAKE(virDomainFree);
    if (calls.virInitialize() < 0) {
        snprintf(failure, sizeof failure, "%s", calls.virGetLastErrorMessage());
        return;
    }
    calls.virSetErrorFunc(NULL, ignore);
    is_loaded = true;
}

const struct libvirt_calls *libvirt_load(const char **reason) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    *reason = failure;
    return is_loaded ? &calls : NULL;
}
