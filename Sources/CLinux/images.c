#define _GNU_SOURCE
#include "images.h"
#include <fcntl.h>
#include <sys/uio.h>

int rml_punch_hole(int descriptor, off_t offset, off_t length) {
    return (int)rml_result(fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
}

int rml_zero_range(int descriptor, off_t offset, off_t length) {
    return (int)rml_result(fallocate(descriptor, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length));
}

off_t rml_next_data(int descriptor, off_t offset) { return rml_result(lseek(descriptor, offset, SEEK_DATA)); }

off_t rml_end(int descriptor) { return rml_result(lseek(descriptor, 0, SEEK_END)); }

int rml_sync_data(int descriptor) { return (int)rml_result(fdatasync(descriptor)); }

ssize_t rml_pread_now(int descriptor, void *bytes, size_t count, off_t offset) {
    struct iovec vector = {.iov_base = bytes, .iov_len = count};
    return rml_result(preadv2(descriptor, &vector, 1, offset, RWF_NOWAIT));
}

void rml_forget_cached(int descriptor) { (void)posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED); }

int rml_lock_byte(int descriptor, off_t byte) {
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return (int)rml_result(fcntl(descriptor, F_OFD_SETLK, &lock));
}

int rml_unlock(int descriptor) {
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    return (int)rml_result(fcntl(descriptor, F_OFD_SETLK, &lock));
}

int rml_byte_is_locked(int descriptor, off_t byte) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(descriptor, F_OFD_GETLK, &lock) < 0) return -errno;
    return lock.l_type != F_UNLCK;
}
