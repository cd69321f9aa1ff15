/* A file on storage that answers late: a FUSE file system with one file, "disk", whose reads take so long.
 *
 *   slow-disk DIRECTORY BACKING DELAY_US [writes]
 *
 * Mounts DIRECTORY, says "ready", and serves DIRECTORY/disk from BACKING until it gets SIGTERM, or is killed: then whoever
 * cleans up takes the dead mount away. Every read is answered DELAY_US after it came, however many are under way; writes and
 * flushes at once, or with "writes" those as late as reads. With O_DIRECT the kernel pins the reader's pages when the read begins and copies the data into them when it
 * is answered (fs/fuse/file.c, fuse_direct_io): as a real disk does.
 *
 * It is broken for as long as there is a file BACKING.fault, which says how: "eio" fails every read, write and flush, "enospc"
 * every write, "flush" every flush; "hang" answers nothing and does it late. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { root_id = FUSE_ROOT_ID, disk_id = 2, data_max = 1 << 20, pending_max = 4096 };

enum kind { reading, writing, flushing };

/* A read that is to be done, or a write that was done or failed. */
struct pending {
    uint64_t unique, offset, due;
    uint32_t size;
    enum kind kind;
    int error;
};

static int device, backing;
static uint64_t delay, disk_size;
static int writes_are_late;
static const char *directory;
static char fault_path[4096];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static struct pending queue[pending_max];
static unsigned head, tail;

static void fail(const char *what) {
    fprintf(stderr, "slow-disk: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void answer(uint64_t unique, int error, const void *data, size_t size) {
    struct fuse_out_header header = {.len = (uint32_t)(sizeof header + size), .error = -error, .unique = unique};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)data, size}};
    /* ENOENT: the reader gave up meanwhile. */
    if (writev(device, parts, size > 0 ? 2 : 1) < 0 && errno != ENOENT) fail("answer");
}

/* The error of the disk as it is now; returns once it does not hang. */
static int fault(enum kind kind) {
    for (;;) {
        char word[16] = "";
        int file = open(fault_path, O_RDONLY | O_CLOEXEC);
        if (file < 0) return 0;
        ssize_t got = read(file, word, sizeof word - 1);
        close(file);
        if (got > 0 && strncmp(word, "eio", 3) == 0) return EIO;
        if (got > 0 && strncmp(word, "enospc", 6) == 0) return kind == writing ? ENOSPC : 0;
        if (got > 0 && strncmp(word, "flush", 5) == 0) return kind == flushing ? EIO : 0;
        if (got > 0 && strncmp(word, "hang", 4) != 0) return 0;
        usleep(5000);
    }
}

static struct fuse_attr attributes(uint64_t id) {
    int is_root = id == root_id;
    return (struct fuse_attr){
        .ino = id, .size = is_root ? 0 : disk_size, .blocks = is_root ? 0 : disk_size / 512,
        .mode = is_root ? S_IFDIR | 0755 : S_IFREG | 0600, .nlink = 1, .blksize = 4096};
}

static void answer_write(uint64_t unique, int error, uint32_t size) {
    struct fuse_write_out out = {.size = size};
    answer(unique, error, &out, error ? 0 : sizeof out);
}

static void *answer_late(void *unused) {
    static char data[data_max];
    prctl(PR_SET_TIMERSLACK, 1000);
    for (;;) {
        pthread_mutex_lock(&lock);
        while (head == tail) pthread_cond_wait(&came, &lock);
        struct pending read = queue[tail++ % pending_max];
        pthread_mutex_unlock(&lock);
        struct timespec due = {.tv_sec = (time_t)(read.due / 1000000000u), .tv_nsec = (long)(read.due % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {}
        if (read.kind == writing) {
            answer_write(read.unique, read.error, read.size);
            continue;
        }
        int error = fault(reading);
        ssize_t got = error ? 0 : pread(backing, data, read.size, (off_t)read.offset);
        answer(read.unique, got < 0 ? errno : error, data, got < 0 ? 0 : (size_t)got);
    }
    return unused;
}

static void answer_later(struct pending late) {
    late.due = now() + delay;
    pthread_mutex_lock(&lock);
    if (head - tail < pending_max) {
        queue[head++ % pending_max] = late;
        pthread_cond_signal(&came);
    } else {
        answer(late.unique, EAGAIN, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
}

static void initialise(uint64_t unique, const struct fuse_init_in *in) {
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = in->max_readahead,
        .flags = in->flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_ASYNC_DIO),
        .max_background = 512, .congestion_threshold = 384, .max_write = data_max, .time_gran = 1,
        .max_pages = data_max / 4096};
    answer(unique, 0, &out, sizeof out);
}

static void serve(const struct fuse_in_header *request, const void *body) {
    uint64_t unique = request->unique;
    switch (request->opcode) {
    case FUSE_INIT: initialise(unique, body); break;
    case FUSE_LOOKUP: {
        struct fuse_entry_out out = {.nodeid = disk_id, .attr = attributes(disk_id)};
        int is_disk = strcmp(body, "disk") == 0;
        answer(unique, is_disk ? 0 : ENOENT, &out, is_disk ? sizeof out : 0);
        break;
    }
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
        struct fuse_attr_out out = {.attr = attributes(request->nodeid)};
        answer(unique, 0, &out, sizeof out);
        break;
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR: answer(unique, 0, &(struct fuse_open_out){.fh = 1}, sizeof(struct fuse_open_out)); break;
    case FUSE_READ: {
        const struct fuse_read_in *in = body;
        answer_later((struct pending){.unique = unique, .offset = in->offset, .size = in->size, .kind = reading});
        break;
    }
    case FUSE_WRITE: {
        const struct fuse_write_in *in = body;
        int error = fault(writing);
        ssize_t done = error ? -1 : pwrite(backing, in + 1, in->size, (off_t)in->offset);
        if (done < 0 && error == 0) error = errno;
        uint32_t size = done < 0 ? 0 : (uint32_t)done;
        if (writes_are_late) {
            answer_later((struct pending){.unique = unique, .size = size, .kind = writing, .error = error});
        } else {
            answer_write(unique, error, size);
        }
        break;
    }
    case FUSE_FSYNC: {
        int error = fault(flushing);
        answer(unique, error ? error : fdatasync(backing) < 0 ? errno : 0, NULL, 0);
        break;
    }
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_READDIR:
    case FUSE_ACCESS: answer(unique, 0, NULL, 0); break;
    case FUSE_STATFS: answer(unique, 0, &(struct fuse_statfs_out){0}, sizeof(struct fuse_statfs_out)); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break;
    default: answer(unique, ENOSYS, NULL, 0);
    }
}

static void leave(int signal) {
    (void)signal;
    umount2(directory, MNT_DETACH);
    _exit(0);
}

int main(int count, char **arguments) {
    writes_are_late = count == 5 && strcmp(arguments[4], "writes") == 0;
    if (count != 4 && !writes_are_late) {
        fprintf(stderr, "slow-disk DIRECTORY BACKING DELAY_US [writes]\n");
        return 64;
    }
    directory = arguments[1];
    snprintf(fault_path, sizeof fault_path, "%s.fault", arguments[2]);
    delay = strtoull(arguments[3], NULL, 10) * 1000;
    backing = open(arguments[2], O_RDWR | O_CLOEXEC);
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    struct stat status;
    if (backing < 0 || fstat(backing, &status) < 0) fail(arguments[2]);
    if (device < 0) fail("/dev/fuse");
    disk_size = (uint64_t)status.st_size;

    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (mount("slow-disk", directory, "fuse", MS_NOSUID | MS_NODEV, options) < 0) fail(directory);
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    pthread_t thread;
    if (pthread_create(&thread, NULL, answer_late, NULL) != 0) fail("thread");
    puts("ready");
    fflush(stdout);

    static char request[data_max + 65536];
    for (;;) {
        ssize_t got = read(device, request, sizeof request);
        if (got < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
        if (got < 0) return errno == ENODEV ? 0 : 1; /* taken away */
        serve((const struct fuse_in_header *)request, request + sizeof(struct fuse_in_header));
    }
}
