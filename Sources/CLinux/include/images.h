#pragma once
// Disk images: holes, zeros, and the locks by which QEMU's programs keep out of each other's way.
//
// Why it exists: fallocate, its flags, SEEK_DATA and the F_OFD_ commands are hidden behind _GNU_SOURCE, which the headers
// that Swift sees are read without; fcntl is variadic.

#include "result.h"
#include <sys/types.h>

// Zeros that take no room; the length of the file stays.
int rml_punch_hole(int descriptor, off_t offset, off_t length);

// Zeros that keep their room.
int rml_zero_range(int descriptor, off_t offset, off_t length);

// Where the next bytes that are no hole start at or after `offset`; -ENXIO when only a hole follows. Moves the
// descriptor's own offset.
off_t rml_next_data(int descriptor, off_t offset);

// The length of a file or of a block device. Moves the descriptor's own offset.
off_t rml_end(int descriptor);

int rml_sync_data(int descriptor);

// Reads only what the page cache has (RWF_NOWAIT, Linux 4.14); -EAGAIN where that is nothing.
ssize_t rml_pread_now(int descriptor, void *bytes, size_t count, off_t offset);

// Lets the page cache forget what of the file is clean.
void rml_forget_cached(int descriptor);

// Takes a shared lock of one byte, owned by the open file (not by the process), so that it ends with the last close.
int rml_lock_byte(int descriptor, off_t byte);

// Gives back all locks of the open file, also where another process still holds a copy of its descriptor.
int rml_unlock(int descriptor);

// 1 when another open file holds a lock, of any kind, on that byte.
int rml_byte_is_locked(int descriptor, off_t byte);
