/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/links.c: what each end can do with what it is given, and what it cannot. */
#include "supervisor/links.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/commit.h"
#include "shm/memfd.h"
#include "shm/ring.h"
#include "tests/unit/unit.h"

static struct link_memory memory;
static int edge_fds[LINK_EDGE_FDS], router_fds[LINK_ROUTER_FDS];

static void open_link(void) {
    ck_assert_int_eq(links_make(&memory, 1 << 20, 4096, 0, 8 << 20), ERR_OK);
    links_edge_fds(&memory, edge_fds);
    links_router_fds(&memory, router_fds);
}

static void close_link(void) {
    links_close(&memory);
}

static bool may_map(int fd, int protection) {
    void *at = mmap(NULL, 4096, protection, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        munmap(at, 4096);
    return at != MAP_FAILED;
}

static bool writable(int fd) {
    return may_map(fd, PROT_READ | PROT_WRITE);
}

START_TEST(test_directions) {
    static const bool edge_writes[] = {true, false, false, true, true, false};
    static const bool router_writes[] = {false, true, true, false, false, true, true, true};
    for (int i = 0; i < 6; i++) {
        ck_assert_msg(may_map(edge_fds[i], PROT_READ), "edge %d", i);
        ck_assert_msg(writable(edge_fds[i]) == edge_writes[i], "edge %d", i);
    }
    for (int i = 0; i < 8; i++) {
        ck_assert_msg(may_map(router_fds[i], PROT_READ), "router %d", i);
        ck_assert_msg(writable(router_fds[i]) == router_writes[i], "router %d", i);
    }
}
END_TEST

/* Both ends map the rings that the descriptors make, and a record gets through each. */
static void pass_record(int data_w, int credit_r, int data_r, int credit_w) {
    struct ring_map producer, consumer;
    struct ring_writer w;
    struct ring_reader r;
    ck_assert_int_eq(ring_map(&producer, data_w, credit_r, true), ERR_OK);
    ck_assert_int_eq(ring_map(&consumer, data_r, credit_w, false), ERR_OK);
    ck_assert_int_eq(ring_writer_open(&w, &producer), ERR_OK);
    ck_assert_int_eq(ring_reader_open(&r, &consumer), ERR_OK);
    ring_head(&w)[0] = 77;
    ring_advance(&w, 8);
    ring_publish(&w);
    ck_assert(ring_reader_refresh(&r));
    ck_assert_uint_eq(ring_ready(&r), 8);
    ck_assert_uint_eq(ring_tail(&r)[0], 77);
    ring_unmap(&producer);
    ring_unmap(&consumer);
}

START_TEST(test_rings) {
    pass_record(edge_fds[0], edge_fds[1], router_fds[0], router_fds[1]);
    pass_record(router_fds[2], router_fds[3], edge_fds[2], edge_fds[3]);
    pass_record(edge_fds[4], edge_fds[5], router_fds[4], router_fds[5]);
}
END_TEST

START_TEST(test_bells) {
    char byte;
    ck_assert_int_eq(write(edge_fds[6], "b", 1), 1);
    ck_assert_int_eq(read(router_fds[8], &byte, 1), 1);
    ck_assert_int_eq(write(router_fds[9], "b", 1), 1);
    ck_assert_int_eq(read(edge_fds[7], &byte, 1), 1);
    ck_assert_int_eq(read(edge_fds[7], &byte, 1), -1);
    ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

/* After the seal: the map of before goes on writing, but there is no new one, no hole, and no further seal. */
START_TEST(test_seal) {
    int edge_copy = dup(memory.ingress_data.writable); /* what a lost edge has kept */
    void *map;
    ck_assert_int_eq(memfd_map(&map, edge_copy, 8192, 1), ERR_OK);
    ck_assert_int_eq(links_seal_edge(&memory), ERR_OK);
    ((volatile char *)map)[0] = 1;
    ck_assert(!writable(edge_copy));
    ck_assert_int_ne(fallocate(edge_copy, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    ck_assert_int_ne(madvise(map, 4096, MADV_REMOVE), 0);
    ck_assert_int_ne(ftruncate(edge_copy, 0), 0);
    ck_assert_int_ne(ftruncate(edge_copy, 1 << 30), 0);
    ck_assert_int_ne(fcntl(edge_copy, F_ADD_SEALS, F_SEAL_WRITE), 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", edge_copy);
    int again = open(path, O_RDWR);
    ck_assert(again < 0 || !writable(again));
    /* The supervisor keeps no writable descriptor of what the edge writes, and all of what the router writes. */
    ck_assert_int_eq(memory.ingress_data.writable | memory.egress_credit.writable | memory.replay_data.writable, -1);
    ck_assert(writable(memory.egress_data.writable) && writable(memory.ingress_credit.writable));
    ck_assert(may_map(memory.ingress_data.reader, PROT_READ));
    close(edge_copy);
}
END_TEST

/* Another user with a descriptor for reading cannot open the memory again for writing. */
START_TEST(test_reopen) {
    if (geteuid() != 0)
        return;
    int readers[] = {edge_fds[1], edge_fds[2], edge_fds[5]};
    pid_t pid = fork();
    if (pid == 0) {
        int failed = setgid(64999) | setuid(64999);
        for (int i = 0; i < 3 && !failed; i++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/self/fd/%d", readers[i]);
            failed = open(path, O_RDWR) >= 0 || fchmod(readers[i], 0777) == 0;
        }
        _exit(failed ? 1 : 0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(test_sizes) {
    struct stat st;
    ck_assert_int_eq(fstat(memory.ingress_data.reader, &st), 0);
    ck_assert_int_ge(st.st_size, 4 * (1 << 20));
    ck_assert_int_eq(st.st_blocks * 512, st.st_size); /* every page is there */
    ck_assert_int_eq(fstat(memory.egress_data.reader, &st), 0);
    ck_assert_int_eq(st.st_blocks * 512, st.st_size);
    ck_assert_int_eq(fstat(memory.spill, &st), 0);
    ck_assert_int_eq(st.st_size, 8 << 20);
    ck_assert_int_eq(st.st_blocks, 0);
    ck_assert_int_eq(fstat(memory.soft, &st), 0);
    ck_assert_int_eq(st.st_size, sizeof(struct soft_link));
    ck_assert_int_eq(st.st_mode & 0777, 0400);
    struct link_memory small;
    ck_assert_int_eq(links_make(&small, 100, 4096, 0, 0), ERR_OK);
    ck_assert_int_eq(fstat(small.ingress_data.reader, &st), 0);
    ck_assert_int_eq(st.st_size, (2 << 20) + RING_PAGE);
    links_close(&small);
}
END_TEST

START_TEST(test_close) {
    struct link_memory m;
    int next = dup(0);
    close(next);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(links_make(&m, 1 << 20, 4096, 0, 1 << 20), ERR_OK);
        if (i)
            ck_assert_int_eq(links_seal_edge(&m), ERR_OK);
        links_close(&m);
        links_close(&m);
    }
    ck_assert_int_eq(dup(0), next);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("links");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, open_link, close_link);
    tcase_add_test(tcase, test_directions);
    tcase_add_test(tcase, test_rings);
    tcase_add_test(tcase, test_bells);
    tcase_add_test(tcase, test_seal);
    tcase_add_test(tcase, test_reopen);
    tcase_add_test(tcase, test_sizes);
    tcase_add_test(tcase, test_close);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
