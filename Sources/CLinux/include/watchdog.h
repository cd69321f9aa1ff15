#pragma once
// A hardware watchdog: a device that resets the machine unless it is written to in time.
//
// Why it exists: ioctl is variadic. Source: the kernel's Documentation/watchdog/watchdog-api.rst and linux/watchdog.h.

#include "result.h"
#include <linux/watchdog.h>
#include <sys/ioctl.h>

// Asks for a timeout in seconds; the device writes the one that it took back.
static inline int rml_watchdog_set_timeout(int descriptor, int *seconds) {
    return (int)rml_result(ioctl(descriptor, WDIOC_SETTIMEOUT, seconds));
}
