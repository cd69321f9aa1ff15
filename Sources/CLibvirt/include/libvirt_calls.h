/// libvirt's client library, loaded when it is used for the first time: a host without it needs nothing of it.
#ifndef ROMULUS_LIBVIRT_CALLS_H
#define ROMULUS_LIBVIRT_CALLS_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

/// The functions of libvirt.so.0 that Romulus calls, under their own names.
struct libvirt_calls {
    __typeof__(&virInitialize) virInitialize;
    __typeof__(&virSetErrorFunc) virSetErrorFunc;
    __typeof__(&virGetLastErrorMessage) virGetLastErrorMessage;
    __typeof__(&virGetLastErrorCode) virGetLastErrorCode;
    __typeof__(&virConnectOpen) virConnectOpen;
    __typeof__(&virConnectClose) virConnectClose;
    __typeof__(&virConnectListAllDomains) virConnectListAllDomains;
    __typeof__(&virDomainLookupByName) virDomainLookupByName;
    __typeof__(&virDomainLookupByUUIDString) virDomainLookupByUUIDString;
    __typeof__(&virDomainGetName) virDomainGetName;
    __typeof__(&virDomainGetUUIDString) virDomainGetUUIDString;
    __typeof__(&virDomainIsActive) virDomainIsActive;
    __typeof__(&virDomainIsPersistent) virDomainIsPersistent;
    __typeof__(&virDomainGetAutostart) virDomainGetAutostart;
    __typeof__(&virDomainGetXMLDesc) virDomainGetXMLDesc;
    __typeof__(&virDomainDefineXMLFlags) virDomainDefineXMLFlags;
    __typeof__(&virDomainFree) virDomainFree;
};

/// All of them, or NULL where the library or one of them is missing: `reason` says which then. May be called at any time, from
/// any thread. The library is never unloaded.
const struct libvirt_calls *libvirt_load(const char **reason);

#endif
