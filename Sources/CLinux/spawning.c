#define _GNU_SOURCE
#include "spawning.h"

int rml_spawn_close_from(posix_spawn_file_actions_t *actions, int first) {
    return -posix_spawn_file_actions_addclosefrom_np(actions, first);
}

int rml_spawn_change_directory(posix_spawn_file_actions_t *actions, const char *path) {
    return -posix_spawn_file_actions_addchdir_np(actions, path);
}

int rml_spawn_new_session(void) { return POSIX_SPAWN_SETSID; }
