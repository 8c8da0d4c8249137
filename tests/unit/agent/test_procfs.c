/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/procfs.h"

#include "abi/record.h"
#include "files.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define ID   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID2  "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define ID32 "00112233445566778899aabbccddeeff"

static void whole_files(void **state)
{
    struct files files;
    char buf[8];

    (void)state;
    files_begin(&files);
    files_write(files_path(&files, "x"), "seven77", 7);
    memset(buf, '#', sizeof(buf));
    assert_int_equal(ap_procfs_read(files.path, buf, sizeof(buf)), 7);
    assert_string_equal(buf, "seven77");
    assert_int_equal(ap_procfs_read(files.path, buf, 7), -EFBIG); /* no room for the NUL */
    files_write(files.path, "", 0);
    assert_int_equal(ap_procfs_read(files.path, buf, sizeof(buf)), 0);
    assert_string_equal(buf, "");
    assert_int_equal(ap_procfs_read(files_path(&files, "none"), buf, sizeof(buf)), -ENOENT);
    assert_int_equal(ap_procfs_read(files.dir, buf, sizeof(buf)), -EISDIR);
    files_end(&files);
}

static int number_of(const char *text, uint64_t *ret_value)
{
    struct files files;
    int rc;

    files_begin(&files);
    files_write(files_path(&files, "x"), text, strlen(text));
    rc = ap_procfs_read_u64(files.path, ret_value);
    files_end(&files);
    return rc;
}

static void numbers(void **state)
{
    uint64_t value = 7;

    (void)state;
    assert_int_equal(number_of("127\n", &value), 0);
    assert_int_equal(value, 127);
    assert_int_equal(number_of("18446744073709551615\n", &value), 0);
    assert_int_equal(value, UINT64_MAX);
    value = 7;
    assert_int_equal(number_of("18446744073709551616\n", &value), -EINVAL);
    assert_int_equal(number_of("", &value), -EINVAL);
    assert_int_equal(number_of("x1\n", &value), -EINVAL);
    assert_int_equal(ap_procfs_read_u64("/nonexistent/number", &value), -ENOENT);
    assert_int_equal(value, 7); /* written on success only */
    assert_int_equal(ap_procfs_read_u64("/proc/sys/kernel/pid_max", &value), 0);
    assert_true(value > 1);
}

static void status_fields(void **state)
{
    static const char text[] = "Name:\tVmHWM\nVmHWMs:\t1 kB\nVmHWM:\t  5120 kB\nVmRSS:\t77 kB\nLast:\t9";
    uint64_t value = 7;

    (void)state;
    assert_int_equal(ap_procfs_field(text, "VmHWM", &value), 0);
    assert_int_equal(value, 5120);
    assert_int_equal(ap_procfs_field(text, "Last", &value), 0);
    assert_int_equal(value, 9);
    value = 7;
    assert_int_equal(ap_procfs_field(text, "RSS", &value), -ENOENT); /* only at a line's beginning */
    assert_int_equal(ap_procfs_field(text, "VmRS", &value), -ENOENT);
    assert_int_equal(ap_procfs_field("", "VmRSS", &value), -ENOENT);
    assert_int_equal(ap_procfs_field("\n\n", "VmRSS", &value), -ENOENT);
    assert_int_equal(value, 7);
}

static void peak_memory(void **state)
{
    const size_t more = 48u << 20;
    uint64_t before = ap_procfs_rss_peak(), after;
    char *memory = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    (void)state;
    assert_true(before > 0 && memory != MAP_FAILED);
    memset(memory, 1, more);
    munmap(memory, more);
    after = ap_procfs_rss_peak(); /* given back, but it was the peak */
    assert_in_range(after, before + more / 2, before + 2 * more);
}

static void own_number(void **state)
{
    uint32_t nr = 0;

    (void)state;
    assert_int_equal(ap_procfs_ns_pid((uint32_t)getpid(), &nr), 0);
    assert_int_equal(nr, getpid());
    nr = 7;
    assert_true(ap_procfs_ns_pid(0x7fffffff, &nr) < 0);
    assert_int_equal(nr, 7);
}

/* First process of a pid namespace of its own, seen from here. */
static void number_in_a_namespace(void **state)
{
    uint32_t nr = 0;
    int made[2];
    char ok = 0;
    pid_t maker, inner = 0;

    (void)state;
    assert_int_equal(pipe(made), 0);
    maker = fork();
    assert_true(maker >= 0);
    if (maker == 0) {
        if (unshare(CLONE_NEWPID))
            _exit(77);
        inner = fork();
        if (inner == 0) {
            pause();
            _exit(0);
        }
        if (write(made[1], &inner, sizeof(inner)) != sizeof(inner))
            _exit(1);
        waitpid(inner, NULL, 0);
        _exit(0);
    }
    close(made[1]);
    ok = read(made[0], &inner, sizeof(inner)) == sizeof(inner);
    close(made[0]);
    if (!ok) {
        waitpid(maker, NULL, 0);
        skip(); /* needs CAP_SYS_ADMIN */
    }
    assert_int_equal(ap_procfs_ns_pid((uint32_t)inner, &nr), 0);
    assert_int_equal(nr, 1);
    kill(inner, SIGKILL);
    waitpid(maker, NULL, 0);
}

static void expect_id(const char *text, const char *wanted)
{
    char id[65] = "#";
    size_t len = ap_procfs_container_id(text, id);

    if (len != strlen(wanted) || (len && strcmp(id, wanted) != 0))
        fail_msg("\"%s\": got \"%.*s\", wanted \"%s\"", text, (int)len, id, wanted);
}

static void container_ids(void **state)
{
    (void)state;
    /* docker: cgroupfs driver on v1 and v2, systemd driver */
    expect_id("12:cpu,cpuacct:/docker/" ID "\n11:memory:/docker/" ID "\n0::/system.slice/containerd.service\n", ID);
    expect_id("0::/docker/" ID "\n", ID);
    expect_id("0::/system.slice/docker-" ID ".scope\n", ID);
    expect_id("0::/system.slice/docker-" ID ".scope/init\n", ID);
    /* containerd under Kubernetes: cgroupfs and systemd driver, and its own form with colons */
    expect_id("0::/kubepods/besteffort/pod5a7e1f6c-0a2f-4d6d-8f57-4b9b0f2c9d10/" ID "\n", ID);
    expect_id("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod5a7e1f6c_0a2f_4d6d_8f57_4b9b0f2c9d10"
              ".slice/cri-containerd-" ID ".scope\n",
              ID);
    expect_id("1:name=systemd:/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" ID "\n", ID);
    /* static pods are named by 32 digits; the container's id counts */
    expect_id("0::/kubepods/burstable/" ID32 "/" ID "\n", ID);
    expect_id("0::/kubepods/burstable/" ID "/" ID32 "\n", ID);
    /* cri-o and podman */
    expect_id("0::/kubepods.slice/crio-" ID ".scope\n", ID);
    expect_id("0::/machine.slice/libpod-" ID ".scope/container\n", ID);
    expect_id("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope", ID);
    /* in one another: the innermost */
    expect_id("0::/docker/" ID "/docker/" ID2 "\n", ID2);
    expect_id("0::/garden/" ID32 "\n", ID32);
    expect_id("0::/0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF\n",
              "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF");
}

static void no_container_ids(void **state)
{
    (void)state;
    expect_id("", "");
    expect_id("0::/\n", "");
    expect_id("0::/init.scope\n", "");
    expect_id("0::/user.slice/user-1000.slice/session-3.scope\n", "");
    expect_id("0::/system.slice/cron.service\n", "");
    expect_id("0::/kubepods/besteffort/pod5a7e1f6c-0a2f-4d6d-8f57-4b9b0f2c9d10\n", "");
    expect_id("0::/docker/0" ID "\n", "");   /* 65 digits */
    expect_id("0::/docker/a" ID32 "\n", ""); /* 33 digits */
    expect_id("0::/docker/0123456789abcdef\n", "");
    expect_id("0::/system.slice/run-r" ID32 ".service\n", ""); /* systemd-run */
    expect_id("0::/x/" ID "g\n", "");                          /* goes on: no part's end */
    expect_id("0::/x/" ID "-init\n", "");
    expect_id("0::/x/_" ID "\n", "");
    expect_id(ID, ""); /* no path at all */
}

static void process_names(void **state)
{
    char name[AP_COMM_SZ], before[AP_COMM_SZ];

    (void)state;
    assert_int_equal(prctl(PR_GET_NAME, before), 0);
    assert_int_equal(prctl(PR_SET_NAME, "a name: %s \"x\""), 0);
    ap_procfs_comm((uint32_t)getpid(), "fallback", name);
    assert_int_equal(prctl(PR_SET_NAME, before), 0);
    assert_string_equal(name, "a name: %s \"x\"");
    ap_procfs_comm(0, "fallback", name); /* not visible here */
    assert_string_equal(name, "fallback");
    ap_procfs_comm(0x10000001, "", name); /* gone */
    assert_string_equal(name, "");
    ap_procfs_comm(0, "0123456789abcdef and more than any buffer on the way to it has room for", name);
    assert_string_equal(name, "0123456789abcde");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_files),   cmocka_unit_test(numbers),          cmocka_unit_test(status_fields),
        cmocka_unit_test(peak_memory),   cmocka_unit_test(own_number),       cmocka_unit_test(number_in_a_namespace),
        cmocka_unit_test(container_ids), cmocka_unit_test(no_container_ids), cmocka_unit_test(process_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
