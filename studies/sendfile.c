// The cheapest way to hand out ranges of a file, to throw them away, and to keep them: what studies/sendfile.py measures
// a store against, and studies/wrk.py the network limit.
//
//   sendfile serve FILE                                    prints its port; answers every GET with one range of FILE
//   sendfile drain PORT PATH SIZE RANGE CONNECTIONS SECONDS prints "requests bytes seconds errors"
//   sendfile keep PORT LIST CONNECTIONS TURNS              fetches the ranges of LIST (lines "PATH FIRST LAST") TURNS
//                                                          times, each time into new memory; prints seconds, one a line
//
// A thread for each connection, blocking calls, no more of HTTP than both sides need.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 8192, PATH = 256 };

static int file;
static struct sockaddr_in address;
static const char *path;
static long long size, range;
static double deadline;

struct wanted {
    char path[PATH];
    long long first, last, offset;
};

static struct wanted *list;
static int wanted_count;
static atomic_int next;
static char *kept;
static pthread_barrier_t begin, end_of_turn;

struct drained {
    pthread_t thread;
    unsigned seed;
    long long requests, bytes, errors;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

// Reads up to the end of a head and returns how many bytes of `head` were read; 0 when there is none.
static size_t read_head(int peer, char *head, char **end) {
    for (size_t have = 0; have < HEAD - 1;) {
        ssize_t got = recv(peer, head + have, HEAD - 1 - have, 0);
        if (got <= 0) return 0;
        have += got;
        head[have] = 0;
        if ((*end = strstr(head, "\r\n\r\n"))) {
            *end += 4;
            return have;
        }
    }
    return 0;
}

static void *answer(void *argument) {
    int peer = (int)(long)argument, on = 1;
    char head[HEAD], *end;
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (read_head(peer, head, &end)) {
        long long first, last;
        char *wanted = strcasestr(head, "range: bytes="), reply[200];
        if (!wanted || sscanf(wanted + 13, "%lld-%lld", &first, &last) != 2) break;
        int length = snprintf(reply, sizeof reply,
                              "HTTP/1.1 206 Partial Content\r\ncontent-length: %lld\r\n"
                              "content-range: bytes %lld-%lld/%lld\r\n\r\n",
                              last - first + 1, first, last, size);
        if (send(peer, reply, length, MSG_MORE | MSG_NOSIGNAL) != length) break;
        off_t offset = first;
        while (offset <= last && sendfile(peer, file, &offset, last + 1 - offset) > 0) continue;
        if (offset <= last) break;
    }
    close(peer);
    return NULL;
}

static void serve(const char *name) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t length = sizeof address;
    if ((file = open(name, O_RDONLY)) < 0) die(name);
    size = lseek(file, 0, SEEK_END);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int peer = accept(listener, NULL, NULL);
        if (peer < 0) die("accept");
        if (pthread_create(&thread, NULL, answer, (void *)(long)peer)) die("thread");
        pthread_detach(thread);
    }
}

// Asks for one range and keeps it in `body`, or, where that is NULL, throws it away in the kernel; returns the bytes of
// the body, -1 for anything but a 206.
static long long get(int peer, const char *name, long long first, long long count, char *body) {
    char head[HEAD], *end;
    int length = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nhost: x\r\nrange: bytes=%lld-%lld\r\n\r\n", name,
                          first, first + count - 1);
    if (send(peer, head, length, MSG_NOSIGNAL) != length) return -1;
    size_t have = read_head(peer, head, &end);
    char *told = have ? strcasestr(head, "content-length: ") : NULL;
    if (!told || strncmp(head, "HTTP/1.1 206", 12) || atoll(told + 16) != count) return -1;
    long long done = have - (end - head);
    if (body) memcpy(body, end, done);
    while (done < count) {
        ssize_t got = recv(peer, body ? body + done : NULL, count - done, body ? MSG_WAITALL : MSG_TRUNC);
        if (got <= 0) return -1;
        done += got;
    }
    return count;
}

static int connected(void) {
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(peer, (struct sockaddr *)&address, sizeof address)) die("connect");
    return peer;
}

static void *drain(void *argument) {
    struct drained *one = argument;
    int peer = connected();
    while (now() < deadline) {
        long long bytes = get(peer, path, rand_r(&one->seed) % (size / range) * range, range, NULL);
        if (bytes < 0) {
            one->errors++;
            break;
        }
        one->requests++;
        one->bytes += bytes;
    }
    close(peer);
    return NULL;
}

static void *keep(void *argument) {
    int peer = connected();
    for (int turns = *(int *)argument; turns; turns--) {
        pthread_barrier_wait(&begin);
        for (int i; (i = atomic_fetch_add(&next, 1)) < wanted_count;) {
            struct wanted *one = &list[i];
            if (get(peer, one->path, one->first, one->last - one->first + 1, kept + one->offset) < 0) die("answer");
        }
        pthread_barrier_wait(&end_of_turn);
    }
    close(peer);
    return NULL;
}

static void load(const char *name) {
    struct wanted one = {.offset = 0};
    FILE *lines = fopen(name, "r");
    if (!lines) die(name);
    while (fscanf(lines, "%255s %lld %lld", one.path, &one.first, &one.last) == 3) {
        if (!(list = realloc(list, (wanted_count + 1) * sizeof one))) die("memory");
        list[wanted_count++] = one;
        one.offset += one.last - one.first + 1;
    }
    size = one.offset;
    fclose(lines);
}

// The first turn opens the connections, and is not told.
static void keep_all(const char *name, int connections, int turns) {
    load(name);
    pthread_barrier_init(&begin, NULL, connections + 1);
    pthread_barrier_init(&end_of_turn, NULL, connections + 1);
    int all = turns + 1;
    for (int i = 0; i < connections; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, keep, &all)) die("thread");
    }
    for (int number = 0; number < all; number++) {
        double start = now();
        kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (kept == MAP_FAILED) die("memory");
        madvise(kept, size, MADV_HUGEPAGE);
        next = 0;
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&end_of_turn);
        if (number) printf("%.6f\n", now() - start);
        munmap(kept, size);
    }
}

int main(int count, char **words) {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (count == 3 && !strcmp(words[1], "serve")) serve(words[2]);
    if (count == 6 && !strcmp(words[1], "keep")) {
        address.sin_port = htons(atoi(words[2]));
        keep_all(words[3], atoi(words[4]), atoi(words[5]));
        return 0;
    }
    if (count != 8 || strcmp(words[1], "drain")) {
        fprintf(stderr, "usage: sendfile serve FILE | drain PORT PATH SIZE RANGE CONNECTIONS SECONDS | "
                        "keep PORT LIST CONNECTIONS TURNS\n");
        return 2;
    }
    address.sin_port = htons(atoi(words[2]));
    path = words[3], size = atoll(words[4]), range = atoll(words[5]);
    int connections = atoi(words[6]);
    struct drained all[connections], sum = {0};
    double start = now();
    deadline = start + atof(words[7]);
    for (int i = 0; i < connections; i++) {
        all[i] = (struct drained){.seed = i + 1};
        if (pthread_create(&all[i].thread, NULL, drain, &all[i])) die("thread");
    }
    for (int i = 0; i < connections; i++) {
        pthread_join(all[i].thread, NULL);
        sum.requests += all[i].requests, sum.bytes += all[i].bytes, sum.errors += all[i].errors;
    }
    printf("%lld %lld %.6f %lld\n", sum.requests, sum.bytes, now() - start, sum.errors);
    return 0;
}
