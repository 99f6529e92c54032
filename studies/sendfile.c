// The cheapest way to hand out ranges of a file, and the cheapest way to throw them away: what studies/sendfile.py
// measures a store against.
//
//   sendfile serve FILE                                    prints its port; answers every GET with one range of FILE
//   sendfile drain PORT PATH SIZE RANGE CONNECTIONS SECONDS prints "requests bytes seconds errors"
//
// A thread for each connection, blocking calls, no more of HTTP than both sides need.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 8192 };

static int file;
static struct sockaddr_in address;
static const char *path;
static long long size, range;
static double deadline;

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

// Asks for one range and throws it away in the kernel; returns the bytes of the body, -1 for anything but a 206.
static long long get(int peer, unsigned *seed) {
    char head[HEAD], *end;
    long long first = rand_r(seed) % (size / range) * range;
    int length = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nhost: x\r\nrange: bytes=%lld-%lld\r\n\r\n", path,
                          first, first + range - 1);
    if (send(peer, head, length, MSG_NOSIGNAL) != length) return -1;
    size_t have = read_head(peer, head, &end);
    char *told = have ? strcasestr(head, "content-length: ") : NULL;
    if (!told || strncmp(head, "HTTP/1.1 206", 12) || atoll(told + 16) != range) return -1;
    long long left = range - (have - (end - head));
    while (left > 0) {
        ssize_t got = recv(peer, NULL, left, MSG_TRUNC);
        if (got <= 0) return -1;
        left -= got;
    }
    return range;
}

static void *drain(void *argument) {
    struct drained *one = argument;
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(peer, (struct sockaddr *)&address, sizeof address)) die("connect");
    while (now() < deadline) {
        long long bytes = get(peer, &one->seed);
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

int main(int count, char **words) {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (count == 3 && !strcmp(words[1], "serve")) serve(words[2]);
    if (count != 8 || strcmp(words[1], "drain")) {
        fprintf(stderr, "usage: sendfile serve FILE | drain PORT PATH SIZE RANGE CONNECTIONS SECONDS\n");
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
