#!/bin/sh
# Linux: PAGEMAP_SCAN that protects and has less room than a huge page of hugetlbfs goes past that page without a word.
#
# Version:  Linux 6.18.44, x86-64 (the kernel that runs; 6.7 is the oldest with PAGEMAP_SCAN).
# Guess:    a scan with `max_pages` stops where its room ends: what it has not reported lies behind `walk_end`, where the next
#           call goes on, and stays written until it is reported.
# Seen:     of eight written huge pages of 512 pages each, a protecting scan with room for 300 pages reports none, and says
#           that it walked to the last of them: a caller that goes on there never hears of the seven before, which are still
#           written. With room for 512 pages it reports one at a time, from the first on. Ordinary pages are reported as
#           guessed: as many as there is room for, and `walk_end` behind the last.
# Matters:  who copies a virtual machine's memory of huge pages piece by piece: a piece must have room for a whole huge page.
set -eu

[ "$(id -u)" = 0 ] || {
    echo "needs root: huge pages are reserved for it, and given back" >&2
    exit 2
}
before=$(cat /proc/sys/vm/nr_hugepages)
folder=$(mktemp -d)
trap 'echo "$before" > /proc/sys/vm/nr_hugepages; rm -rf "$folder"' EXIT
echo $((before + 8)) > /proc/sys/vm/nr_hugepages
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

enum { page = 4096, huge = 512 * page, count = 8 };

static void must(int is_right, const char *what) {
    if (!is_right) {
        perror(what);
        exit(2);
    }
}

/* Pages that were found with room for `room` of them; `reached` is where the walk ended, in pages. */
static long scan(char *memory, long length, int room, long *reached) {
    int file = open("/proc/self/pagemap", O_RDONLY);
    struct page_region regions[64];
    struct pm_scan_arg ask = {
        .size = sizeof ask, .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
        .start = (uintptr_t)memory, .end = (uintptr_t)memory + length, .vec = (uintptr_t)regions,
        .vec_len = 64, .max_pages = room, .category_mask = PAGE_IS_WRITTEN, .return_mask = PAGE_IS_WRITTEN};
    int found = ioctl(file, PAGEMAP_SCAN, &ask);
    must(found >= 0, "PAGEMAP_SCAN");
    close(file);
    long written = 0;
    for (int i = 0; i < found; i++) written += (long)(regions[i].end - regions[i].start) / page;
    *reached = (long)(ask.walk_end - (uintptr_t)memory) / page;
    return written;
}

static char *track(int user, int flags) {
    char *memory = mmap(0, count * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    must(memory != MAP_FAILED, "mmap");
    if (!flags) madvise(memory, count * huge, MADV_NOHUGEPAGE);
    struct uffdio_register range = {
        .range = {(uintptr_t)memory, count * huge}, .mode = UFFDIO_REGISTER_MODE_WP};
    must(ioctl(user, UFFDIO_REGISTER, &range) == 0, "UFFDIO_REGISTER");
    memset(memory, 7, count * huge);
    return memory;
}

int main(void) {
    int user = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    must(user >= 0, "userfaultfd");
    struct uffdio_api api = {
        .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM};
    must(ioctl(user, UFFDIO_API, &api) == 0, "UFFDIO_API");
    char *large = track(user, MAP_HUGETLB), *small = track(user, 0);
    long reached = 0;
    long found = scan(large, count * huge, 300, &reached);
    printf("huge: room 300 found %ld reached %ld", found, reached);
    found = scan(large, count * huge, 512, &reached);
    printf(", room 512 found %ld reached %ld", found, reached);
    found = scan(small, count * huge, 300, &reached);
    printf("; ordinary: room 300 found %ld reached %ld\n", found, reached);
    return 0;
}
END
gcc -O1 -Wall -o "$folder/scan" "$folder/scan.c"
uname -sr
seen=$("$folder/scan")
echo "$seen"
[ "$seen" = "huge: room 300 found 0 reached 3584, room 512 found 512 reached 512; ordinary: room 300 found 300 reached 300" ] || {
    echo "this behaves in another way now" >&2
    exit 1
}
