#pragma once
// Files that outlive a power cut: synchronising, putting one file in the place of another, keeping a second user out.
//
// Why it exists: errno must be folded (result.h).

#include "result.h"
#include <stdio.h>
#include <sys/file.h>

// Contents and name's own data, of a file or of a directory.
static inline int rml_sync(int descriptor) { return (int)rml_result(fsync(descriptor)); }

static inline int rml_rename(const char *from, const char *to) { return (int)rml_result(rename(from, to)); }

// An exclusive lock of the whole file or directory, owned by the open file; -EWOULDBLOCK when another one has it.
static inline int rml_lock_whole(int descriptor) { return (int)rml_result(flock(descriptor, LOCK_EX | LOCK_NB)); }

// Gives the lock back at once, also where a process that is just being started still has a copy of the descriptor.
static inline int rml_unlock_whole(int descriptor) { return (int)rml_result(flock(descriptor, LOCK_UN)); }
