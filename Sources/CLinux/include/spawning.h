#pragma once
// What a new process is given beyond what posix_spawn's portable part says.
//
// Why it exists: posix_spawn_file_actions_addclosefrom_np (glibc 2.34), its like for the directory and POSIX_SPAWN_SETSID
// are hidden behind _GNU_SOURCE.

#include "result.h"
#include <spawn.h>

// The new process has no descriptor from `first` on.
int rml_spawn_close_from(posix_spawn_file_actions_t *actions, int first);

// The new process begins in the directory `path`.
int rml_spawn_change_directory(posix_spawn_file_actions_t *actions, const char *path);

// The flag by which it gets a session of its own.
int rml_spawn_new_session(void);
