#pragma once
// PAGEMAP_SCAN: which pages of a process were written, in one call that also protects them again.
//
// Why it exists: the ioctl is Linux 6.7, Debian 12's headers are 6.1. Source of the layout: include/uapi/linux/fs.h of
// Linux 6.7.

#include "result.h"
#include <linux/types.h>
#include <sys/ioctl.h>

#ifndef PAGEMAP_SCAN
#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE (1 << 6)

struct page_region {
    __u64 start;
    __u64 end;
    __u64 categories;
};

#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)

struct pm_scan_arg {
    __u64 size;
    __u64 flags;
    __u64 start;
    __u64 end;
    __u64 walk_end;
    __u64 vec;
    __u64 vec_len;
    __u64 max_pages;
    __u64 category_inverted;
    __u64 category_mask;
    __u64 category_anyof_mask;
    __u64 return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

_Static_assert(sizeof(struct page_region) == 24, "struct page_region is 24 bytes in the kernel");
_Static_assert(sizeof(struct pm_scan_arg) == 96, "struct pm_scan_arg is 96 bytes in the kernel");
_Static_assert(PAGEMAP_SCAN == 0xc0606610, "PAGEMAP_SCAN is _IOWR('f', 16, 96 bytes)");

// One step of a scan of [start, end). Returns the number of regions written to `regions`, or -errno; `*reached` is where
// the next step has to begin (`end` when this one was the last). At most `pages_max` pages are reported, 0 is no limit.

// Pages written since they were last protected; with `protect` they are protected again in the same walk.
static inline long rml_scan_written(
    int pagemap, uint64_t start, uint64_t end, int protect, struct page_region *regions, uint64_t region_max,
    uint64_t pages_max, uint64_t *reached) {
    struct pm_scan_arg request = {
        .size = sizeof request,
        .flags = PM_SCAN_CHECK_WPASYNC | (protect ? PM_SCAN_WP_MATCHING : 0),
        .start = start,
        .end = end,
        .vec = (uint64_t)(uintptr_t)regions,
        .vec_len = region_max,
        .max_pages = pages_max,
        // Exactly these masks take the kernel's short path through a page table.
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };
    long result = rml_result(ioctl(pagemap, PAGEMAP_SCAN, &request));
    *reached = request.walk_end;
    return result;
}

// Protects every page, written or not, and reports none.
static inline long rml_protect_all(int pagemap, uint64_t start, uint64_t end, uint64_t *reached) {
    struct pm_scan_arg request = {
        .size = sizeof request,
        .flags = PM_SCAN_CHECK_WPASYNC | PM_SCAN_WP_MATCHING,
        .start = start,
        .end = end,
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };
    long result = rml_result(ioctl(pagemap, PAGEMAP_SCAN, &request));
    *reached = request.walk_end;
    return result;
}

// Protects the pages that have no entry, and no others: one that was touched before this call reached it stays as it is.
// The regions are of no interest, but without room for them the kernel protects everything.
static inline long rml_protect_empty(
    int pagemap, uint64_t start, uint64_t end, struct page_region *regions, uint64_t region_max, uint64_t *reached) {
    struct pm_scan_arg request = {
        .size = sizeof request,
        .flags = PM_SCAN_CHECK_WPASYNC | PM_SCAN_WP_MATCHING,
        .start = start,
        .end = end,
        .vec = (uint64_t)(uintptr_t)regions,
        .vec_len = region_max,
        .category_inverted = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .category_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT,
    };
    long result = rml_result(ioctl(pagemap, PAGEMAP_SCAN, &request));
    *reached = request.walk_end;
    return result;
}

// Pages that have an entry, in memory or swapped out. For private anonymous memory the others were never touched; a page
// of a file may exist without an entry. With `protect` they are protected in the same walk.
static inline long rml_scan_populated(
    int pagemap, uint64_t start, uint64_t end, int protect, struct page_region *regions, uint64_t region_max,
    uint64_t pages_max, uint64_t *reached) {
    struct pm_scan_arg request = {
        .size = sizeof request,
        .flags = protect ? PM_SCAN_CHECK_WPASYNC | PM_SCAN_WP_MATCHING : 0,
        .start = start,
        .end = end,
        .vec = (uint64_t)(uintptr_t)regions,
        .vec_len = region_max,
        .max_pages = pages_max,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT,
    };
    long result = rml_result(ioctl(pagemap, PAGEMAP_SCAN, &request));
    *reached = request.walk_end;
    return result;
}
