/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel has to refuse: to a reader of another user, to a writer after the second seal. Each case tries. The
 * controls show that without the mode and the seals the same attempt succeeds; else a refusal would say nothing.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/unit/shm/shm_testing.h"
#include "tests/unit/unit.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { BYTES = 16 * 4096, NOBODY = 65534, OTHER = 54321 };

/* What an attempt has to work with. */
struct hand {
    int fd;
    uint8_t *map; /* a mapping made before; as writable as the descriptor */
};

/* ---- attempts: 0 if it succeeded, else errno ---- */

static int result(bool ok) {
    return ok ? 0 : errno;
}

static int reopen_as(const struct hand *h, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", h->fd);
    int fd = open(path, flags | O_CLOEXEC);
    int r = result(fd >= 0);
    if (fd >= 0)
        close(fd);
    return r;
}

static int reopen_rdwr(const struct hand *h) {
    return reopen_as(h, O_RDWR);
}

static int reopen_wronly(const struct hand *h) {
    return reopen_as(h, O_WRONLY);
}

static int reopen_trunc(const struct hand *h) {
    return reopen_as(h, O_RDWR | O_TRUNC);
}

static int map_writable(const struct hand *h) {
    void *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
    int r = result(at != MAP_FAILED);
    if (at != MAP_FAILED)
        munmap(at, BYTES);
    return r;
}

static int map_and_protect(const struct hand *h) {
    void *at = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, h->fd, 0);
    ck_assert(at != MAP_FAILED);
    int r = result(mprotect(at, BYTES, PROT_READ | PROT_WRITE) == 0);
    munmap(at, BYTES);
    return r;
}

static int protect_old_map(const struct hand *h) {
    return result(mprotect(h->map, BYTES, PROT_READ | PROT_WRITE) == 0);
}

/* Debuggers write through any mapping; the kernel lets a process do it to itself, but not to a shared one that it may
 * not write. */
static int write_own_memory(const struct hand *h) {
    int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (mem < 0)
        return errno;
    int r = result(pwrite(mem, "x", 1, (off_t)(uintptr_t)h->map) == 1);
    close(mem);
    return r;
}

static int plain_write(const struct hand *h) {
    return result(pwrite(h->fd, "x", 1, 0) == 1);
}

static int change_mode(const struct hand *h) {
    return result(fchmod(h->fd, 0777) == 0);
}

static int change_owner(const struct hand *h) {
    return result(fchown(h->fd, geteuid(), (gid_t)-1) == 0);
}

static int punch_hole(const struct hand *h) {
    return result(fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BYTES) == 0);
}

static int remove_pages(const struct hand *h) {
    return result(madvise(h->map, BYTES, MADV_REMOVE) == 0);
}

static int shrink(const struct hand *h) {
    return result(ftruncate(h->fd, 4096) == 0);
}

static int grow(const struct hand *h) {
    return result(ftruncate(h->fd, 2 * BYTES) == 0);
}

static int grow_by_write(const struct hand *h) {
    return result(pwrite(h->fd, "x", 1, BYTES) == 1);
}

static int seal_write(const struct hand *h) {
    return result(fcntl(h->fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
}

static int seal_seal(const struct hand *h) {
    return result(fcntl(h->fd, F_ADD_SEALS, F_SEAL_SEAL) == 0);
}

struct attempt {
    const char *name;
    int (*try)(const struct hand *h);
};

/* ---- the reader of another user ---- */

static const struct attempt reader_attempts[] = {
    {"reopen for reading and writing", reopen_rdwr},
    {"reopen for writing", reopen_wronly},
    {"reopen and empty", reopen_trunc},
    {"map for writing", map_writable},
    {"map for reading, then protect", map_and_protect},
    {"protect the old map", protect_old_map},
    {"write through /proc/self/mem", write_own_memory},
    {"write", plain_write},
    {"fchmod", change_mode},
    {"fchown", change_owner},
    {"punch a hole", punch_hole},
    {"MADV_REMOVE", remove_pages},
    {"shrink", shrink},
    {"grow", grow},
    {"grow by writing", grow_by_write},
    {"seal against writing", seal_write},
    {"seal the seals", seal_seal},
};

static const char *name_of(int e) {
    return e == 0 ? "it succeeded" : strerror(e);
}

/* In a child of another user: tries all, says on `report` which attempt succeeded. */
static void try_as_other(int reader, int report) {
    struct hand h = {.fd = reader, .map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, reader, 0)};
    for (int fd = 3; fd < 256; fd++)
        if (fd != reader && fd != report)
            close(fd);
    /* Dumpable again: what refuses has to be the mode of the memory, not that of /proc. */
    if (h.map == MAP_FAILED || setresgid(OTHER, OTHER, OTHER) != 0 || setresuid(OTHER, OTHER, OTHER) != 0 ||
        prctl(PR_SET_DUMPABLE, 1) != 0)
        _exit(2);
    for (size_t i = 0; i < sizeof reader_attempts / sizeof *reader_attempts; i++) {
        int e = reader_attempts[i].try(&h);
        if (e == 0 || h.map[0] != 'a' || h.map[BYTES - 1] != 'z') {
            uint8_t which = (uint8_t)i;
            _exit(write(report, &which, 1) == 1 ? 1 : 2);
        }
    }
    _exit(0);
}

/* Nothing of the above means anything if a memory of mode 0777 could not be reopened here either. */
static void control_as_other(int reader) {
    struct hand h = {.fd = reader};
    if (setresgid(OTHER, OTHER, OTHER) != 0 || setresuid(OTHER, OTHER, OTHER) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0)
        _exit(2);
    _exit(reopen_rdwr(&h) == 0 ? 0 : 1);
}

static bool is_root(const char *what) {
    if (geteuid() == 0)
        return true;
    printf("walls_test: skipped without root: %s\n", what);
    return false;
}

START_TEST(test_reader_of_another_user) {
    if (!is_root("a reader of another user"))
        return;
    int fd, reader, report[2];
    void *at;
    ck_assert(memfd_make(&fd, "walls", BYTES, 1) == ERR_OK && memfd_reader(&reader, fd) == ERR_OK);
    ck_assert(memfd_map(&at, fd, BYTES, 1) == ERR_OK);
    uint8_t *bytes = at;
    bytes[0] = 'a';
    bytes[BYTES - 1] = 'z';
    if (_i == 1) /* what an edge writes is sealed a second time; its reader is refused all the same */
        ck_assert(memfd_seal_writer(fd) == ERR_OK);
    ck_assert(pipe(report) == 0);
    pid_t child = testing_fork();
    if (child == 0)
        try_as_other(reader, report[1]);
    int status = testing_wait(child);
    uint8_t which = 0;
    if (status == 1 && read(report[0], &which, 1) == 1)
        ck_abort_msg("%s: not refused", reader_attempts[which].name);
    ck_assert_int_eq(status, 0);
    bytes[1] = 'b'; /* the writer goes on */
    struct stat st;
    ck_assert(fstat(fd, &st) == 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0400);
    ck_assert_uint_eq(st.st_size, BYTES);
}
END_TEST

START_TEST(test_control_reader) {
    if (!is_root("the control of a memory with mode 0777"))
        return;
    int fd = memfd_create("control", MFD_CLOEXEC | MFD_ALLOW_SEALING), reader;
    ck_assert(fd >= 0 && ftruncate(fd, BYTES) == 0 && fchmod(fd, 0777) == 0 && memfd_reader(&reader, fd) == ERR_OK);
    pid_t child = testing_fork();
    if (child == 0)
        control_as_other(reader);
    ck_assert_int_eq(testing_wait(child), 0);
}
END_TEST

/* ---- the writer ---- */

static const struct attempt writer_attempts[] = {
    {"reopen and map", NULL}, /* see reopen_and_map */
    {"map for writing", map_writable},
    {"map for reading, then protect", map_and_protect},
    {"write", plain_write},
    {"punch a hole", punch_hole},
    {"MADV_REMOVE through the existing map", remove_pages},
    {"shrink", shrink},
    {"grow", grow},
    {"grow by writing", grow_by_write},
    {"seal against writing", seal_write},
    {"seal the seals", seal_seal},
};

/* The owner may open it again; what counts is that no writable map comes of it. */
static int reopen_and_map(const struct hand *h) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", h->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int r = map_writable(&(struct hand){.fd = fd});
    close(fd);
    return r;
}

/* As the user that owns the memory, root or not. */
START_TEST(test_writer_after_the_seal) {
    int fd, reader;
    void *at, *seen;
    ck_assert(memfd_make(&fd, "walls", BYTES, 1) == ERR_OK && memfd_reader(&reader, fd) == ERR_OK);
    ck_assert(memfd_map(&at, fd, BYTES, 1) == ERR_OK && memfd_map(&seen, reader, BYTES, 0) == ERR_OK);
    memset(at, 'a', BYTES);
    ck_assert(memfd_seal_writer(fd) == ERR_OK);
    struct hand h = {.fd = fd, .map = at};
    for (size_t i = 0; i < sizeof writer_attempts / sizeof *writer_attempts; i++) {
        int e = writer_attempts[i].try ? writer_attempts[i].try(&h) : reopen_and_map(&h);
        if (e != EPERM && e != EACCES)
            ck_abort_msg("%s: %s", writer_attempts[i].name, name_of(e));
        for (size_t b = 0; b < BYTES; b += 512)
            if (((uint8_t *)seen)[b] != (uint8_t)('a' + i))
                ck_abort_msg("%s: the reader sees other bytes", writer_attempts[i].name);
        memset(at, (int)('a' + i + 1), BYTES); /* the existing map goes on writing */
    }
    ck_assert(memfd_seal_writer(fd) == ERR_SYSTEM); /* once is for ever */
}
END_TEST

/* The same by a process of another user that got the writable descriptor, as an edge does. */
START_TEST(test_edge_after_the_seal) {
    if (!is_root("a writer of another user"))
        return;
    int fd, go[2], mapped[2];
    ck_assert(memfd_make(&fd, "walls", BYTES, 1) == ERR_OK && pipe(go) == 0 && pipe(mapped) == 0);
    pid_t child = testing_fork();
    if (child == 0) {
        char c;
        struct hand h = {.fd = fd, .map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)};
        if (h.map == MAP_FAILED || setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0 ||
            prctl(PR_SET_DUMPABLE, 1) != 0 || write(mapped[1], "m", 1) != 1 || read(go[0], &c, 1) != 1)
            _exit(200);
        for (size_t i = 0; i < sizeof writer_attempts / sizeof *writer_attempts; i++)
            if ((writer_attempts[i].try ? writer_attempts[i].try(&h) : reopen_and_map(&h)) == 0)
                _exit((int)i + 1);
        if (change_mode(&h) == 0)
            _exit(100);
        h.map[BYTES - 1] = 'w';
        _exit(0);
    }
    char c;
    ck_assert(read(mapped[0], &c, 1) == 1);
    ck_assert(memfd_seal_writer(fd) == ERR_OK); /* while another process has it mapped for writing */
    ck_assert(write(go[1], "g", 1) == 1);
    int status = testing_wait(child);
    if (status > 0 && status <= (int)(sizeof writer_attempts / sizeof *writer_attempts))
        ck_abort_msg("%s: not refused", writer_attempts[status - 1].name);
    ck_assert_int_eq(status, 0);
    void *at;
    ck_assert(memfd_map(&at, fd, BYTES, 0) == ERR_OK);
    ck_assert_int_eq(((uint8_t *)at)[BYTES - 1], 'w');
}
END_TEST

/* Before the second seal the same attempts do succeed, but for the size, which never changes. */
START_TEST(test_control_writer) {
    static const struct attempt possible[] = {
        {"map for writing", map_writable},
        {"map for reading, then protect", map_and_protect},
        {"write", plain_write},
        {"punch a hole", punch_hole},
        {"MADV_REMOVE", remove_pages},
        {"seal the seals", seal_seal},
    };
    static const struct attempt never[] = {{"shrink", shrink}, {"grow", grow}, {"grow by writing", grow_by_write}};
    int fd;
    void *at;
    ck_assert(memfd_make(&fd, "walls", BYTES, 1) == ERR_OK && memfd_map(&at, fd, BYTES, 1) == ERR_OK);
    struct hand h = {.fd = fd, .map = at};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (never[i].try(&h) == 0)
            ck_abort_msg("%s: not refused", never[i].name);
    for (size_t i = 0; i < sizeof possible / sizeof *possible; i++) {
        int e = possible[i].try(&h);
        if (e != 0)
            ck_abort_msg("%s: %s; its refusal after the seal says nothing", possible[i].name, name_of(e));
    }
}
END_TEST

/* ---- what memfd_make promises ---- */

START_TEST(test_made) {
    static const size_t sizes[] = {1, 4095, 4096, 4097, BYTES};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int fd, reader;
        size_t bytes;
        struct stat st;
        ck_assert(memfd_make(&fd, "made", sizes[i], 1) == ERR_OK && memfd_size(fd, &bytes) == ERR_OK);
        ck_assert_uint_eq(bytes, memfd_round(sizes[i]));
        ck_assert(fstat(fd, &st) == 0);
        ck_assert_uint_eq((uint64_t)st.st_blocks * 512, bytes); /* all pages are there */
        ck_assert_uint_eq(st.st_mode & 07777, 0400);
        int seals = fcntl(fd, F_GET_SEALS);
        ck_assert_int_eq(seals & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
        ck_assert_int_eq(seals & (F_SEAL_SEAL | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE), 0);
        ck_assert(memfd_reader(&reader, fd) == ERR_OK);
        ck_assert_int_eq(fcntl(reader, F_GETFL) & O_ACCMODE, O_RDONLY);
        ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC && fcntl(reader, F_GETFD) & FD_CLOEXEC);
        close(fd);
        close(reader);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("walls");
    TCase *c = tcase_create("walls");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_made);
    tcase_add_loop_test(c, test_reader_of_another_user, 0, 2);
    tcase_add_test(c, test_control_reader);
    tcase_add_test(c, test_writer_after_the_seal);
    tcase_add_test(c, test_edge_after_the_seal);
    tcase_add_test(c, test_control_writer);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
