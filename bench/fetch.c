/*
 * fetch - many clients that load something over HTTPS, each once, as devices load firmware.
 *
 *   build:  make -C bench fetch
 *   usage:  fetch PORT FILE BYTES [RATE]
 *
 * FILE has a target for each client, one a line. All connect at once, each with a full handshake, and read until BYTES of
 * a body have come. With RATE (bytes/s each) they take no more than that, and the kernel keeps little for them, as a small
 * device does. Prints one line of JSON; exit status 1 if a download did not come whole.
 *
 * One thread: epoll where they are fast; where they are slow a look at each every 20 ms, by turns, for a fleet does not
 * read in step.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES 65536
#define TICK_US 1000
#define TICKS 20                    /* until it is the same ones' turn again */
#define MAX_SECONDS 300
#define SMALL_WINDOW 8192

enum state { HANDSHAKE, REQUEST, HEAD, BODY, DONE, FAILED };

struct client {
    enum state state;
    int descriptor;
    SSL *tls;
    char *target;
    size_t body;                    /* bytes of it that have come */
    char head[4096];
    size_t head_bytes;
    double begun, ended;
};

static char buffer[BUFFER_BYTES];
static size_t wanted;
static size_t left;                 /* clients that are neither done nor failed */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void end(struct client *c, enum state state)
{
    c->state = state;
    c->ended = now();
    SSL_free(c->tls);
    close(c->descriptor);
    left--;
}

/* What came, of which the head is only looked at for its status. */
static void take(struct client *c, const char *bytes, size_t count)
{
    if (c->state == HEAD) {
        size_t room = sizeof c->head - 1 - c->head_bytes;
        size_t copied = count < room ? count : room;
        memcpy(c->head + c->head_bytes, bytes, copied);
        c->head_bytes += copied;
        c->head[c->head_bytes] = 0;
        char *stop = strstr(c->head, "\r\n\r\n");
        if (!stop) {
            if (room == copied) end(c, FAILED);
            return;
        }
        if (strncmp(c->head, "HTTP/1.1 200 ", 13)) {
            end(c, FAILED);
            return;
        }
        size_t of_head = stop + 4 - c->head;
        c->state = BODY;
        c->body = count - (of_head - (c->head_bytes - copied));
    } else {
        c->body += count;
    }
    if (c->body >= wanted) end(c, c->body == wanted ? DONE : FAILED);
}

/* As far as it goes, or until so many bytes of the body have come in all. */
static void advance(struct client *c, size_t allowed)
{
    if (c->state == HANDSHAKE) {
        int result = SSL_connect(c->tls);
        if (result != 1) {
            int error = SSL_get_error(c->tls, result);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) end(c, FAILED);
            return;
        }
        c->state = REQUEST;
    }
    if (c->state == REQUEST) {
        int count = snprintf(buffer, sizeof buffer, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", c->target);
        if (SSL_write(c->tls, buffer, count) != count) {
            end(c, FAILED);
            return;
        }
        c->state = HEAD;
    }
    while ((c->state == HEAD || c->state == BODY) && c->body < allowed) {
        size_t most = allowed - c->body < sizeof buffer ? allowed - c->body : sizeof buffer;
        int count = SSL_read(c->tls, buffer, most);
        if (count <= 0) {
            if (SSL_get_error(c->tls, count) != SSL_ERROR_WANT_READ) end(c, FAILED);
            return;
        }
        take(c, buffer, count);
    }
}

static int compare(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: fetch PORT FILE BYTES [RATE]\n");
        return 2;
    }
    wanted = strtoul(argv[3], NULL, 10);
    double rate = argc > 4 ? strtod(argv[4], NULL) : 0;
    FILE *file = fopen(argv[2], "r");
    if (!file) die(argv[2]);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    struct client *clients = NULL;
    size_t count = 0, room = 0;
    char *line = NULL;
    size_t line_room = 0;
    while (getline(&line, &line_room, file) > 0) {
        if (count == room) clients = realloc(clients, (room = room * 2 + 64) * sizeof *clients);
        if (!clients) die("memory");
        memset(&clients[count], 0, sizeof *clients);
        line[strcspn(line, "\n")] = 0;
        clients[count++].target = strdup(line);
    }
    left = count;
    int events = epoll_create1(0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    double begin = now();
    for (size_t i = 0; i < count; i++) {
        struct client *c = &clients[i];
        c->begun = now();
        c->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (c->descriptor < 0) die("socket");
        int window = SMALL_WINDOW;
        if (rate > 0) setsockopt(c->descriptor, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
        if (connect(c->descriptor, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
        c->tls = SSL_new(context);
        SSL_set_fd(c->tls, c->descriptor);
        SSL_set_connect_state(c->tls);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        if (epoll_ctl(events, EPOLL_CTL_ADD, c->descriptor, &event)) die("epoll");
    }
    for (size_t tick = 0; left > 0 && now() - begin < MAX_SECONDS; tick++) {
        struct epoll_event ready[256];
        int many = epoll_wait(events, ready, 256, rate > 0 ? 0 : 1000);
        for (int i = 0; i < many; i++) {
            struct client *c = ready[i].data.ptr;
            if (rate == 0 || c->state < HEAD) advance(c, rate > 0 ? 1 : SIZE_MAX);
        }
        if (rate == 0) continue;
        for (size_t i = tick % TICKS; i < count; i += TICKS) {
            struct client *c = &clients[i];
            double begun = c->begun + (double)i / count;  /* a second apart, the first and the last */
            if (c->state == HEAD || c->state == BODY) advance(c, (now() > begun ? now() - begun : 0) * rate + 1);
        }
        usleep(TICK_US);
    }
    double seconds = now() - begin;
    size_t whole = 0;
    double *times = calloc(count + 1, sizeof *times);
    for (size_t i = 0; i < count; i++)
        if (clients[i].state == DONE) times[whole++] = clients[i].ended - clients[i].begun;
    qsort(times, whole, sizeof *times, compare);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"clients\": %zu, \"whole\": %zu, \"seconds\": %.3f, \"bytes_per_s\": %.0f, \"p50_s\": %.3f, \"p99_s\": %.3f, "
           "\"own_cpu_s\": %.3f}\n",
           count, whole, seconds, whole * wanted / seconds, whole ? times[whole / 2] : 0,
           whole ? times[whole * 99 / 100] : 0,
           usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    return whole == count ? 0 : 1;
}
