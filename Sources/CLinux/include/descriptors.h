#pragma once
// Descriptors: opening, reading, writing, waiting.
//
// Why it exists: open, fcntl and ioctl are variadic, which Swift cannot call; memfd_create, ppoll and fallocate
// are hidden behind _GNU_SOURCE; and errno must be folded (result.h).

#include "result.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

static inline int rml_open(const char *path, int flags, mode_t mode) {
    return (int)rml_result(open(path, flags | O_CLOEXEC, mode));
}

static inline int rml_close(int descriptor) { return (int)rml_result(close(descriptor)); }

static inline int rml_duplicate(int descriptor) {
    return (int)rml_result(fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
}

static inline ssize_t rml_read(int descriptor, void *bytes, size_t count) {
    return rml_result(read(descriptor, bytes, count));
}

static inline ssize_t rml_write(int descriptor, const void *bytes, size_t count) {
    return rml_result(write(descriptor, bytes, count));
}

static inline ssize_t rml_pread(int descriptor, void *bytes, size_t count, off_t offset) {
    return rml_result(pread(descriptor, bytes, count, offset));
}

static inline ssize_t rml_pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    return rml_result(pwrite(descriptor, bytes, count, offset));
}

static inline int rml_set_non_blocking(int descriptor, int on) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0) return -errno;
    return (int)rml_result(fcntl(descriptor, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

// The file offset is shared by every copy of a descriptor, QEMU's included; hence seeking from outside is of use.
static inline off_t rml_seek(int descriptor, off_t offset) { return rml_result(lseek(descriptor, offset, SEEK_SET)); }

// Where the next contents of a file begin at `offset` or after it: SEEK_DATA, which is hidden behind _GNU_SOURCE. -ENXIO: none
// follow.
static inline off_t rml_seek_contents(int descriptor, off_t offset) { return rml_result(lseek(descriptor, offset, 3)); }

static inline int rml_truncate(int descriptor, off_t length) {
    return (int)rml_result(ftruncate(descriptor, length));
}

static inline int rml_allocate(int descriptor, off_t length) {
    return (int)rml_result(syscall(SYS_fallocate, descriptor, 0, (off_t)0, length));
}

// Bytes that an unprivileged writer may still take on the file system of `descriptor`, or -errno.
static inline int64_t rml_space_available(int descriptor) {
    struct statvfs space;
    if (fstatvfs(descriptor, &space) < 0) return -errno;
    return (int64_t)space.f_bavail * (int64_t)space.f_frsize;
}

// 1 when the file lives in memory (tmpfs), so that its space is the host's RAM; 0 when not, or -errno.
static inline int rml_lives_in_memory(int descriptor) {
    struct statfs system;
    if (fstatfs(descriptor, &system) < 0) return -errno;
    return system.f_type == 0x01021994;
}

// Apparent length and bytes really taken of a file.
static inline int rml_file_size(int descriptor, int64_t *length, int64_t *taken) {
    struct stat file;
    if (fstat(descriptor, &file) < 0) return -errno;
    *length = file.st_size;
    *taken = (int64_t)file.st_blocks * 512;
    return 0;
}

// The file behind a descriptor, as device and inode number.
static inline int rml_file_identity(int descriptor, uint64_t *device, uint64_t *inode) {
    struct stat file;
    if (fstat(descriptor, &file) < 0) return -errno;
    *device = file.st_dev;
    *inode = file.st_ino;
    return 0;
}

static inline int rml_poll(struct pollfd *descriptors, nfds_t count, int64_t nanoseconds) {
    struct timespec limit = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    return (int)rml_result(syscall(SYS_ppoll, descriptors, count, nanoseconds < 0 ? NULL : &limit, NULL, 8));
}

// 1 is MFD_CLOEXEC.
static inline int rml_memfd(const char *name) { return (int)rml_result(syscall(SYS_memfd_create, name, 1u)); }

// Reading end first.
static inline int rml_pipe(int ends[2]) { return (int)rml_result(syscall(SYS_pipe2, ends, O_CLOEXEC)); }

// The room of a pipe in bytes, which the kernel rounds up to a power of two of pages; wakes a writer that now has room.
static inline int rml_resize_pipe(int descriptor, int size) { return (int)rml_result(fcntl(descriptor, 1031, size)); }

// Bytes that lie in a pipe.
static inline int rml_piped_bytes(int descriptor, int *count) { return (int)rml_result(ioctl(descriptor, FIONREAD, count)); }

static inline int rml_change_mode(int descriptor, mode_t mode) { return (int)rml_result(fchmod(descriptor, mode)); }

// 1 for a memory file that cannot become shorter any more; a file without seals gives 0 (F_GET_SEALS, F_SEAL_SHRINK).
static inline int rml_is_sealed_against_shrinking(int descriptor) {
    int seals = fcntl(descriptor, 1034);
    return seals >= 0 && (seals & 2) != 0;
}

static inline int rml_eventfd(void) { return (int)rml_result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

static inline int rml_mkfifo(const char *path, mode_t mode) { return (int)rml_result(mkfifo(path, mode)); }

static inline int rml_unlink(const char *path) { return (int)rml_result(unlink(path)); }

// MAP_FAILED is a cast that Swift does not import; -errno comes back through `failure`, 0 when it worked.
static inline void *rml_map(int descriptor, size_t length, int protection, int flags, off_t offset, int *failure) {
    void *address = mmap(NULL, length, protection, flags, descriptor, offset);
    *failure = address == MAP_FAILED ? -errno : 0;
    return address == MAP_FAILED ? NULL : address;
}

static inline int rml_unmap(void *address, size_t length) { return (int)rml_result(munmap(address, length)); }

static inline int rml_advise(void *address, size_t length, int advice) {
    return (int)rml_result(madvise(address, length, advice));
}
