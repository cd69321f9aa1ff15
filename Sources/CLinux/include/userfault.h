#pragma once
// userfaultfd in asynchronous write-protect mode.
//
// Why it exists: the interface is younger than Debian 12's headers (WP_ASYNC is Linux 6.7), and its ioctl numbers are
// macros, which Swift does not import. Source of the layout: include/uapi/linux/userfaultfd.h of Linux 6.7.

#include "result.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

_Static_assert(sizeof(struct uffdio_api) == 24, "struct uffdio_api is 24 bytes in the kernel");
_Static_assert(sizeof(struct uffdio_register) == 32, "struct uffdio_register is 32 bytes in the kernel");
_Static_assert(UFFDIO_API == 0xc018aa3f, "UFFDIO_API is _IOWR(0xAA, 0x3F, 24 bytes)");
_Static_assert(UFFDIO_REGISTER == 0xc020aa00, "UFFDIO_REGISTER is _IOWR(0xAA, 0x00, 32 bytes)");
_Static_assert(UFFDIO_UNREGISTER == 0x8010aa01, "UFFDIO_UNREGISTER is _IOR(0xAA, 0x01, 16 bytes)");

// What tracking asks of the kernel: writes are recorded without stopping the writer (WP_ASYNC), also those to pages that
// do not exist yet (WP_UNPOPULATED) and to shared or huge memory (WP_HUGETLBFS_SHMEM).
#define RML_TRACKING_FEATURES                                                                                          \
    ((uint64_t)(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED |       \
                UFFD_FEATURE_WP_ASYNC))

static inline uint64_t rml_tracking_features(void) { return RML_TRACKING_FEATURES; }

static inline int rml_userfault_open(void) {
    return (int)rml_result(syscall(SYS_userfaultfd, 02000000 | 04000 | UFFD_USER_MODE_ONLY));
}

// Agrees on `features` (a descriptor takes this once); `*offered` is what the kernel has.
static inline int rml_userfault_agree(int descriptor, uint64_t features, uint64_t *offered) {
    struct uffdio_api agreement = {.api = UFFD_API, .features = features};
    int result = (int)rml_result(ioctl(descriptor, UFFDIO_API, &agreement));
    *offered = agreement.features;
    return result;
}

// `*huge` becomes 1 where the memory is hugetlbfs's: the kernel then offers no UFFDIO_ZEROPAGE (fs/userfaultfd.c,
// `userfaultfd_register`).
static inline int rml_userfault_register(int descriptor, uint64_t address, uint64_t length, int *huge) {
    struct uffdio_register request = {
        .range = {.start = address, .len = length}, .mode = UFFDIO_REGISTER_MODE_WP};
    int result = (int)rml_result(ioctl(descriptor, UFFDIO_REGISTER, &request));
    *huge = result == 0 && !(request.ioctls & (uint64_t)1 << _UFFDIO_ZEROPAGE);
    return result;
}

static inline int rml_userfault_unregister(int descriptor, uint64_t address, uint64_t length) {
    struct uffdio_range range = {.start = address, .len = length};
    return (int)rml_result(ioctl(descriptor, UFFDIO_UNREGISTER, &range));
}
