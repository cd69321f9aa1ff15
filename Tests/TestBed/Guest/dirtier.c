/* Writes to memory at a set rate, and knows what every page must hold.
 *
 * Page p in generation g has a content that follows from (p, g) alone, and generation g of every page is kept in a
 * table of its own. A page whose write was not carried to the machine that runs now shows an older content than
 * the table says: `verify` counts such pages. One process holds the memory; control is by lines over TCP:
 *
 *   set pages=300 period_ms=20 working_set=4096 pattern=counter|random
 *                                                     -> ok               (working_set in pages; pages=0 rests)
 *   stats                                             -> pages=N periods=N bad=N at=ADDRESS of page 0
 *   verify                                            -> pages=N bad=N first_bad=P digest=HEX
 *
 * `counter` changes 16 bytes of a page, `random` all of it. */
#include "guest.h"
#include <pthread.h>

enum { page_size = 4096, words = page_size / 8, working_set_max = 1 << 20 };

struct orders {
    long long pages, period_ms, working_set;
    int is_random;
};

static uint64_t (*memory)[words];
static uint64_t *generation; /* the lowest bit tells the pattern of the write */
static long long allocated;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct orders orders = {.pages = 0, .period_ms = 20, .working_set = 1024};
static uint64_t written, periods, bad;

static uint64_t word_of(uint64_t page, uint64_t stamp, int index) {
    if (stamp & 1) return mix(stamp * 0x100000001b3u + page * words + (uint64_t)index);
    if (index == 0 || index == words - 1) return stamp;
    return mix(page * words + (uint64_t)index);
}

static void fill(uint64_t page, uint64_t stamp) {
    for (int i = 0; i < words; i++) memory[page][i] = word_of(page, stamp, i);
}

static int is_whole(uint64_t page) {
    for (int i = 0; i < words; i++)
        if (memory[page][i] != word_of(page, generation[page], i)) return 0;
    return 1;
}

static void touch(uint64_t page, int is_random) {
    uint64_t old = generation[page], stamp = (((old >> 1) + 1) << 1) | (uint64_t)is_random;
    if (memory[page][0] != word_of(page, old, 0) || memory[page][words - 1] != word_of(page, old, words - 1)) bad++;
    if (!is_random && !(old & 1)) {
        memory[page][0] = stamp;
        memory[page][words - 1] = stamp;
    } else {
        fill(page, stamp);
    }
    generation[page] = stamp;
    written++;
}

static int grow_to(long long pages) {
    if (pages <= allocated) return 0;
    if (pages > working_set_max) return -1;
    for (; allocated < pages; allocated++) {
        generation[allocated] = 2;
        fill((uint64_t)allocated, 2);
    }
    return 0;
}

static void *run(void *unused) {
    uint64_t next = monotonic_ns(), position = 0;
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        if (orders.pages == 0) {
            pthread_cond_wait(&changed, &lock);
            next = monotonic_ns();
        }
        for (long long i = 0; i < orders.pages; i++) {
            uint64_t pages = (uint64_t)orders.working_set;
            uint64_t page = orders.is_random ? mix(written) % pages : position++ % pages;
            touch(page, orders.is_random);
        }
        periods++;
        next += (uint64_t)orders.period_ms * 1000000u;
        pthread_mutex_unlock(&lock);
        /* A guest that stood still, or a rate above what this machine can do, must not lead to a burst. */
        uint64_t now = monotonic_ns();
        if (next < now) next = now;
        sleep_until_ns(next);
    }
    return NULL;
}

static void verify(int fd) {
    uint64_t wrong = 0, digest = 0;
    long long first = -1;
    for (long long page = 0; page < allocated; page++) {
        digest = mix(digest ^ crc32c(memory[page], page_size));
        if (is_whole((uint64_t)page)) continue;
        if (first < 0) first = page;
        wrong++;
    }
    reply(fd, "pages=%lld bad=%llu first_bad=%lld digest=%016llx\n", allocated, (unsigned long long)(wrong + bad), first,
          (unsigned long long)digest);
}

static void set(int fd, const char *line) {
    struct orders wanted = orders;
    char pattern[16] = "";
    wanted.pages = number_in(line, "pages", wanted.pages);
    wanted.period_ms = number_in(line, "period_ms", wanted.period_ms);
    wanted.working_set = number_in(line, "working_set", wanted.working_set);
    if (word_in(line, "pattern", pattern, sizeof pattern) > 0) wanted.is_random = strcmp(pattern, "random") == 0;
    if (wanted.pages < 0 || wanted.period_ms < 1 || wanted.working_set < 1 || grow_to(wanted.working_set) < 0) {
        reply(fd, "error: pages >= 0, period_ms >= 1, 1 <= working_set <= %d\n", working_set_max);
        return;
    }
    orders = wanted;
    pthread_cond_signal(&changed);
    reply(fd, "ok\n");
}

static void *session(void *argument) {
    int fd = (int)(intptr_t)argument;
    char line[256];
    while (read_line(fd, line, sizeof line) >= 0) {
        pthread_mutex_lock(&lock);
        if (strncmp(line, "set ", 4) == 0)
            set(fd, line);
        else if (strcmp(line, "stats") == 0)
            reply(fd, "pages=%llu periods=%llu bad=%llu at=%llu\n", (unsigned long long)written,
                  (unsigned long long)periods, (unsigned long long)bad, (unsigned long long)(uintptr_t)memory);
        else if (strcmp(line, "verify") == 0)
            verify(fd);
        else
            reply(fd, "error: set, stats or verify\n");
        pthread_mutex_unlock(&lock);
    }
    close(fd);
    return NULL;
}

int main(int count, char **arguments) {
    uint16_t port = (uint16_t)(count > 1 ? atoi(arguments[1]) : 8);
    signal(SIGPIPE, SIG_IGN);
    memory = mmap(NULL, (size_t)working_set_max * page_size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    generation = mmap(NULL, (size_t)working_set_max * sizeof *generation, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || generation == MAP_FAILED) fail("mmap");
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0) fail("pthread_create");
    int listener = listen_on(port);
    for (;;) {
        int fd = accept_one(listener);
        if (pthread_create(&thread, NULL, session, (void *)(intptr_t)fd) != 0) fail("pthread_create");
        pthread_detach(thread);
    }
}
