/* SPDX-License-Identifier: Apache-2.0 */
/* SO_REUSEPORT is set after bind: the first bind is refused if anybody, also another Bulkhead, has the port. Only the
 * own further sockets, bound while the first is held, share it.
 *
 * As with nats-server, a wildcard of either family means both: one socket takes IPv6 and, as mapped addresses, IPv4.
 * Where the machine has no IPv6 it is IPv4 alone. */
#include "supervisor/listeners.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void listeners_address(char *out, size_t cap, const char *host, int32_t port) {
    bool bare_v6 = strchr(host, ':') && host[0] != '[';
    snprintf(out, cap, bare_v6 ? "[%s]:%d" : "%s:%d", host, (int)port);
}

static bool is_wildcard(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
    return ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr == htonl(INADDR_ANY);
}

static void set_wildcard(struct sockaddr_storage *address, socklen_t *len, int family) {
    *address = (struct sockaddr_storage){.ss_family = (sa_family_t)family}; /* both are all zeroes */
    *len = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* Looks the host up, where it has both an address of IPv4; brackets around an IPv6 address are allowed. */
static const char *resolve(const char *host, struct sockaddr_storage *address, socklen_t *len) {
    char bare[NI_MAXHOST];
    size_t n = strlen(host);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']')
        snprintf(bare, sizeof bare, "%.*s", (int)(n - 2), host + 1);
    else
        snprintf(bare, sizeof bare, "%s", host);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    int failed = getaddrinfo(bare, NULL, &hints, &found);
    if (failed)
        return gai_strerror(failed);
    const struct addrinfo *best = found;
    while (best && best->ai_family != AF_INET)
        best = best->ai_next;
    best = best ? best : found;
    memcpy(address, best->ai_addr, best->ai_addrlen);
    *len = best->ai_addrlen;
    freeaddrinfo(found);
    if (is_wildcard(address))
        set_wildcard(address, len, AF_INET6);
    return NULL;
}

bool listeners_are_everywhere(const char *host) {
    struct sockaddr_storage address = {0};
    socklen_t len;
    return !resolve(host, &address, &len) && is_wildcard(&address);
}

static in_port_t *port_of(struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET6)
        return &((struct sockaddr_in6 *)(void *)address)->sin6_port;
    return &((struct sockaddr_in *)(void *)address)->sin_port;
}

/* Keep-alive and no delay are set here once: accepted sockets inherit them. */
static int bind_one(const struct sockaddr_storage *address, socklen_t len, bool first, const char **step) {
    static const int on = 1;
    const int one_family = !is_wildcard(address);
    *step = "socket";
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (address->ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one_family, sizeof one_family);
    *step = "bind";
    if ((first || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
        bind(fd, (const struct sockaddr *)address, len) == 0) {
        *step = "listen";
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 && listen(fd, LISTENER_BACKLOG) == 0)
            return fd;
    }
    int kept = errno;
    close(fd);
    errno = kept;
    return -1;
}

/* Go writes the kernel's words in small letters. */
static void describe(char *why, size_t cap, const char *where, const char *step, int number) {
    char words[128];
    snprintf(words, sizeof words, "%s", strerror(number));
    if (words[0] >= 'A' && words[0] <= 'Z')
        words[0] = (char)(words[0] + 'a' - 'A');
    snprintf(why, cap, "listen tcp %s: %s: %s", where, step, words);
}

enum err listeners_bind(int *fds, uint32_t count, const char *host, int32_t port, uint16_t *bound_port, char *why,
                        size_t cap) {
    char where[NI_MAXHOST + 16];
    listeners_address(where, sizeof where, host, port < 0 ? 0 : port);
    struct sockaddr_storage address = {0};
    socklen_t len = 0;
    const char *problem = resolve(host, &address, &len), *step;
    if (problem) {
        snprintf(why, cap, "listen tcp %s: %s", where, problem);
        return ERR_SYSTEM;
    }
    *port_of(&address) = htons((uint16_t)(port < 0 ? 0 : port));
    for (uint32_t i = 0; i < count; i++) {
        fds[i] = bind_one(&address, len, i == 0, &step);
        if (fds[i] < 0 && i == 0 && is_wildcard(&address) && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
            set_wildcard(&address, &len, AF_INET);
            *port_of(&address) = htons((uint16_t)(port < 0 ? 0 : port));
            fds[i] = bind_one(&address, len, true, &step);
        }
        if (fds[i] < 0) {
            describe(why, cap, where, step, errno);
            while (i-- > 0)
                close(fds[i]);
            return ERR_SYSTEM;
        }
        if (i == 0)
            getsockname(fds[0], (struct sockaddr *)&address, &(socklen_t){sizeof address});
    }
    *bound_port = ntohs(*port_of(&address));
    return ERR_OK;
}

enum err listeners_join(int *fd, int sibling_fd) {
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    const char *step;
    *fd = -1;
    if (getsockname(sibling_fd, (struct sockaddr *)&address, &len) == 0)
        *fd = bind_one(&address, len, false, &step);
    return *fd >= 0 ? ERR_OK : ERR_SYSTEM;
}
