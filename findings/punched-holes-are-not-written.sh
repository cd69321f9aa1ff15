#!/bin/sh
# Linux: a hole punched in a memory file is not "written" for PAGEMAP_SCAN.
#
# Version:  Linux 6.18.44, x86-64 (the kernel that runs; 6.7 is the oldest with PAGEMAP_SCAN).
# Guess:    memory that is tracked with asynchronous write protection (userfaultfd, UFFD_FEATURE_WP_ASYNC) and loses its contents
#           is reported as written, in whatever way it loses them: a copy that follows the reports stays equal.
# Seen:     MADV_DONTNEED of private memory is reported at once. FALLOC_FL_PUNCH_HOLE of a mapped memory file is not: the pages
#           read as zero from then on, and a scan reports none of them, also after they were read. It reports one once it is
#           written.
# Matters:  who copies a virtual machine's memory by such scans, and its balloon gives pages of a memory-backend-memfd back.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/scan.c" <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <linux/types.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of Linux 6.7 and later; Debian 12's headers are older. */
#ifndef PAGEMAP_SCAN
#define PAGE_IS_WRITTEN 2
#define PM_SCAN_WP_MATCHING 1
#define PM_SCAN_CHECK_WPASYNC 2
struct page_region { __u64 start, end, categories; };
struct pm_scan_arg {
    __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
    __u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

enum { page = 4096, pages = 64, from = 8, count = 16 };

static void must(int is_right, const char *what) {
    if (!is_right) {
        perror(what);
        exit(2);
    }
}

/* Written pages of the range; protects them again. */
static long scan(char *memory) {
    int file = open("/proc/self/pagemap", O_RDONLY);
    struct page_region regions[pages];
    struct pm_scan_arg ask = {
        .size = sizeof ask, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
        .start = (uintptr_t)memory, .end = (uintptr_t)memory + pages * page, .vec = (uintptr_t)regions,
        .vec_len = pages, .category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN};
    int found = ioctl(file, PAGEMAP_SCAN, &ask);
    must(found >= 0, "PAGEMAP_SCAN");
    close(file);
    long written = 0;
    for (int i = 0; i < found; i++) written += (long)(regions[i].end - regions[i].start) / page;
    return written;
}

static char *track(char *memory, int user) {
    must(memory != MAP_FAILED, "mmap");
    memset(memory, 7, pages * page);
    struct uffdio_register range = {
        .range = {(uintptr_t)memory, pages * page}, .mode = UFFDIO_REGISTER_MODE_WP};
    must(ioctl(user, UFFDIO_REGISTER, &range) == 0, "UFFDIO_REGISTER");
    scan(memory);
    must(scan(memory) == 0, "protection");
    return memory;
}

int main(void) {
    int user = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    must(user >= 0, "userfaultfd");
    struct uffdio_api api = {
        .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM};
    must(ioctl(user, UFFDIO_API, &api) == 0, "UFFDIO_API");

    char *private = track(mmap(0, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), user);
    must(madvise(private + from * page, count * page, MADV_DONTNEED) == 0, "madvise");
    long discarded = scan(private);

    int file = memfd_create("finding", MFD_CLOEXEC);
    must(ftruncate(file, pages * page) == 0, "ftruncate");
    char *shared = track(mmap(0, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), user);
    must(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from * page, count * page) == 0, "fallocate");
    long punched = scan(shared);
    int value = *(volatile char *)(shared + from * page);
    long read = scan(shared);
    *(volatile char *)(shared + from * page) = 1;
    long written = scan(shared);
    printf("discarded %ld punched %ld value %d read %ld written %ld\n", discarded, punched, value, read, written);
    return 0;
}
END
gcc -O1 -Wall -o "$folder/scan" "$folder/scan.c"
uname -sr
seen=$("$folder/scan")
echo "$seen"
[ "$seen" = "discarded 16 punched 0 value 0 read 0 written 1" ] || {
    echo "this behaves in another way now" >&2
    exit 1
}
