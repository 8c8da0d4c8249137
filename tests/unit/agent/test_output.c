/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/output.h"

#include "files.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#define STACK_LINE "worker;outer;inner 5\n"

static struct ap_capture *capture;

static int make_capture(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_series row = {.pid = 1};
    struct ap_frame frame = {.kind = AP_FRAME_NATIVE};
    uint32_t frames[2], series, stack;

    (void)state;
    capture = ap_capture_new();
    if (!capture || !profile)
        return -1;
    capture->profiles[0] = profile;
    capture->profile_cnt = 1;
    row.comm = ap_strings_id(profile->strings, "worker");
    frame.function = ap_strings_id(profile->strings, "inner");
    assert_int_equal(ap_profile_add_frame(profile, &frame, &frames[0]), 0);
    frame.function = ap_strings_id(profile->strings, "outer");
    assert_int_equal(ap_profile_add_frame(profile, &frame, &frames[1]), 0);
    assert_int_equal(ap_profile_add_series(profile, &row, &series), 0);
    assert_int_equal(ap_profile_add_stack(profile, frames, 2, false, &stack), 0);
    return ap_profile_add_sample(profile, series, stack, 5, 5);
}

static int free_capture(void **state)
{
    (void)state;
    capture = ap_capture_free(capture);
    return 0;
}

static int write_collapsed(const char *path, struct ap_error *err)
{
    memset(err, 0, sizeof(*err));
    return ap_output_write(path, AP_FORMAT_COLLAPSED, capture, 0, err);
}

static void expect_text(const char *path, const char *wanted)
{
    char text[256] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(read(fd, text, sizeof(text) - 1), strlen(wanted));
    assert_string_equal(text, wanted);
    close(fd);
}

static void new_file(void **state)
{
    struct files files;
    struct ap_error err;

    (void)state;
    files_begin(&files);
    files_path(&files, "a.collapsed");
    assert_int_equal(ap_output_check(files.path, &err), 0);
    assert_int_equal(files_count(files.dir), 0); /* the check leaves nothing */
    assert_int_equal(write_collapsed(files.path, &err), 0);
    expect_text(files.path, STACK_LINE);
    assert_int_equal(files_count(files.dir), 1);
    files_end(&files);
}

/* A link keeps being one: what it leads to is replaced. */
static void symbolic_link(void **state)
{
    struct files files;
    struct ap_error err;
    struct stat st;

    (void)state;
    files_begin(&files);
    files_write(files_path(&files, "target"), "old", 3);
    assert_int_equal(symlink("target", files_path(&files, "link.collapsed")), 0);
    assert_int_equal(ap_output_check(files.path, &err), 0);
    assert_int_equal(write_collapsed(files.path, &err), 0);
    assert_int_equal(lstat(files.path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    expect_text(files_path(&files, "target"), STACK_LINE);
    assert_int_equal(files_count(files.dir), 2);
    files_end(&files);
}

/* In the current directory, without a slash in the name. */
static void plain_name(void **state)
{
    struct ap_error err;
    struct files files;
    int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    (void)state;
    assert_true(back >= 0);
    files_begin(&files);
    assert_int_equal(chdir(files.dir), 0);
    assert_int_equal(ap_output_check("x", &err), 0);
    assert_int_equal(write_collapsed("x", &err), 0);
    expect_text(files_path(&files, "x"), STACK_LINE);
    assert_int_equal(fchdir(back), 0);
    close(back);
    files_end(&files);
}

static void atomic_replacement(void **state)
{
    struct ap_error err;
    struct files files;
    struct stat before, after;
    char text[8] = "";
    int old;

    (void)state;
    files_begin(&files);
    files_write(files_path(&files, "a"), "old", 3);
    assert_int_equal(stat(files.path, &before), 0);
    old = open(files.path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(ap_output_check(files.path, &err), 0);
    expect_text(files.path, "old");
    assert_int_equal(write_collapsed(files.path, &err), 0);
    assert_int_equal(stat(files.path, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);  /* moved into place, not written over */
    assert_int_equal(read(old, text, sizeof(text)), 3); /* who reads the old one still has it whole */
    close(old);
    expect_text(files.path, STACK_LINE);
    assert_int_equal(files_count(files.dir), 1);
    files_end(&files);
}

/* Writing fails in the middle: the process's limit of file sizes stands for a full disk. */
static void failure_leaves_the_old_file(void **state)
{
    struct rlimit limit, low;
    struct ap_error err;
    struct files files;
    int rc;

    (void)state;
    files_begin(&files);
    files_write(files_path(&files, "a"), "old", 3);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    low = limit;
    low.rlim_cur = 4;
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    rc = write_collapsed(files.path, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(rc, -EFBIG);
    assert_non_null(strstr(err.text, files.path));
    expect_text(files.path, "old");
    assert_int_equal(files_count(files.dir), 1); /* no temporary file is left */

    /* a directory where the file should go */
    assert_int_equal(mkdir(files_path(&files, "d"), 0755), 0);
    assert_int_equal(write_collapsed(files.path, &err), -EISDIR);
    assert_non_null(strstr(err.text, "is a directory"));
    assert_int_equal(files_count(files.dir), 2);
    files_end(&files);
}

static void where_nothing_can_be_written(void **state)
{
    struct ap_error err = {0};
    struct files files;

    (void)state;
    files_begin(&files);
    assert_int_equal(ap_output_check(files_path(&files, "no/such/a.svg"), &err), -ENOENT);
    assert_non_null(strstr(err.text, "directory does not exist"));
    assert_non_null(strstr(err.text, files.path));
    assert_int_equal(write_collapsed(files.path, &err), -ENOENT);
    files_write(files_path(&files, "file"), "", 0);
    assert_int_equal(ap_output_check(files_path(&files, "file/a.svg"), &err), -ENOTDIR);
    assert_non_null(strstr(err.text, "directory does not exist"));
    assert_int_equal(ap_output_check(files.dir, &err), -EISDIR);
    assert_non_null(strstr(err.text, "is a directory"));
    files_end(&files);
}

static void devices(void **state)
{
    struct ap_error err;
    struct stat st;

    (void)state;
    assert_int_equal(ap_output_check("/dev/full", &err), 0);
    assert_int_equal(write_collapsed("/dev/full", &err), -ENOSPC);
    assert_non_null(strstr(err.text, "no space"));
    assert_int_equal(write_collapsed("/dev/null", &err), 0);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode)); /* written into, not replaced */
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

struct reader {
    const char *path;
    char text[256];
    ssize_t len;
};

static void *read_pipe(void *arg)
{
    struct reader *reader = arg;
    int fd = open(reader->path, O_RDONLY | O_CLOEXEC);

    reader->len = read(fd, reader->text, sizeof(reader->text) - 1);
    close(fd);
    return NULL;
}

static void pipes(void **state)
{
    struct reader reader = {0};
    struct ap_error err;
    struct files files;
    struct stat st;
    pthread_t thread;

    (void)state;
    files_begin(&files);
    reader.path = files_path(&files, "pipe");
    assert_int_equal(mkfifo(reader.path, 0600), 0);
    assert_int_equal(ap_output_check(reader.path, &err), 0); /* does not wait for a reader */
    assert_int_equal(pthread_create(&thread, NULL, read_pipe, &reader), 0);
    assert_int_equal(write_collapsed(reader.path, &err), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(reader.text, STACK_LINE);
    assert_int_equal(stat(reader.path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    files_end(&files);
}

static void standard_output(void **state)
{
    struct ap_error err;
    struct files files;
    int saved, file, rc;

    (void)state;
    files_begin(&files);
    assert_int_equal(ap_output_check("-", &err), 0);
    file = open(files_path(&files, "out"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    (void)fflush(stdout);
    saved = dup(STDOUT_FILENO);
    assert_true(saved >= 0 && dup2(file, STDOUT_FILENO) >= 0);
    rc = write_collapsed("-", &err);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0); /* it is left open */
    close(saved);
    close(file);
    assert_int_equal(rc, 0);
    expect_text(files.path, STACK_LINE);
    files_end(&files);
}

static void mode_bits(void **state)
{
    static const struct {
        mode_t mask, mode;
    } cases[] = {{022, 0644}, {077, 0600}, {027, 0640}, {0, 0644}};
    struct ap_error err;
    struct files files;
    struct stat st;
    mode_t mask;
    size_t i;

    (void)state;
    files_begin(&files);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mask = umask(cases[i].mask);
        assert_int_equal(write_collapsed(files_path(&files, "a"), &err), 0);
        assert_int_equal(umask(mask), cases[i].mask); /* put back */
        assert_int_equal(stat(files.path, &st), 0);
        assert_int_equal(st.st_mode & 07777, cases[i].mode);
    }
    files_end(&files);
}

/* Where results go ------------------------------------------------------------------------------------------------- */

struct place {
    const char *path;
    uint8_t kind;
    bool several, stacks;
    enum ap_format format;
    const char *wanted;
    enum ap_format wanted_format;
};

static void expect_places(const struct place *places, size_t cnt)
{
    static char path[PATH_MAX];
    enum ap_format format;
    size_t i;

    for (i = 0; i < cnt; i++) {
        const struct place *place = &places[i];

        format = place->format;
        memset(path, '#', sizeof(path));
        assert_int_equal(ap_output_path(place->path, place->kind, place->several, place->stacks, &format, path), 0);
        if (strcmp(path, place->wanted) != 0 || format != place->wanted_format)
            fail_msg("\"%s\": \"%s\" of format %d, wanted \"%s\" of %d", place->path, path, (int)format, place->wanted,
                     (int)place->wanted_format);
    }
}

static void paths_of_one_kind(void **state)
{
    static const struct place places[] = {
        {"a.svg", AP_KIND_CPU, false, true, AP_FORMAT_SVG, "a.svg", AP_FORMAT_SVG},
        {"a.collapsed", AP_KIND_LOCK, false, true, AP_FORMAT_COLLAPSED, "a.collapsed", AP_FORMAT_COLLAPSED},
        {"a.pb.gz", AP_KIND_OFFCPU, false, true, AP_FORMAT_PPROF, "a.pb.gz", AP_FORMAT_PPROF},
        {"a.txt", AP_KIND_SYSCALL, false, false, AP_FORMAT_TEXT, "a.txt", AP_FORMAT_TEXT},
        {"a.json", AP_KIND_SYSCALL, false, false, AP_FORMAT_JSON, "a.json", AP_FORMAT_JSON},
        {"profile", AP_KIND_CPU, false, true, AP_FORMAT_SVG, "profile", AP_FORMAT_SVG},
        {"-", AP_KIND_CPU, false, true, AP_FORMAT_COLLAPSED, "-", AP_FORMAT_COLLAPSED},
    };

    (void)state;
    expect_places(places, sizeof(places) / sizeof(places[0]));
}

static void paths_of_several_kinds(void **state)
{
    static const struct place places[] = {
        {"a.svg", AP_KIND_CPU, true, true, AP_FORMAT_SVG, "a.cpu.svg", AP_FORMAT_SVG},
        {"a.svg", AP_KIND_OFFCPU, true, true, AP_FORMAT_SVG, "a.offcpu.svg", AP_FORMAT_SVG},
        {"a.collapsed", AP_KIND_LOCK, true, true, AP_FORMAT_COLLAPSED, "a.lock.collapsed", AP_FORMAT_COLLAPSED},
        {"a.pb.gz", AP_KIND_SYSCALL, true, true, AP_FORMAT_PPROF, "a.syscall.pb.gz", AP_FORMAT_PPROF},
        {"a.txt", AP_KIND_CPU, true, true, AP_FORMAT_TEXT, "a.cpu.txt", AP_FORMAT_TEXT},
        {"a.json", AP_KIND_CPU, true, true, AP_FORMAT_JSON, "a.json", AP_FORMAT_JSON}, /* holds them all */
        {"a.speedscope.json", AP_KIND_LOCK, true, true, AP_FORMAT_SPEEDSCOPE, "a.lock.speedscope.json",
         AP_FORMAT_SPEEDSCOPE},
        {"-", AP_KIND_CPU, true, true, AP_FORMAT_TEXT, "-", AP_FORMAT_TEXT},
        {"dir.svg/a.svg", AP_KIND_CPU, true, true, AP_FORMAT_SVG, "dir.svg/a.cpu.svg", AP_FORMAT_SVG},
        {"../a.b.svg", AP_KIND_CPU, true, true, AP_FORMAT_SVG, "../a.b.cpu.svg", AP_FORMAT_SVG},
        /* as it was written */
        {"A.SVG", AP_KIND_CPU, true, true, AP_FORMAT_SVG, "A.cpu.SVG", AP_FORMAT_SVG},
        {"a.Pb.gZ", AP_KIND_CPU, true, true, AP_FORMAT_PPROF, "a.cpu.Pb.gZ", AP_FORMAT_PPROF},
        {".svg", AP_KIND_CPU, true, true, AP_FORMAT_SVG, ".cpu.svg", AP_FORMAT_SVG},
        /* the format was chosen, whatever the name */
        {"profile", AP_KIND_CPU, true, true, AP_FORMAT_SVG, "profile.cpu", AP_FORMAT_SVG},
        {"a.json", AP_KIND_CPU, true, true, AP_FORMAT_SVG, "a.json.cpu", AP_FORMAT_SVG},
        {"a.svg", AP_KIND_CPU, true, true, AP_FORMAT_JSON, "a.svg", AP_FORMAT_JSON},
        {"a.gz", AP_KIND_CPU, true, true, AP_FORMAT_PPROF, "a.gz.cpu", AP_FORMAT_PPROF},
        {"pb.gz", AP_KIND_CPU, true, true, AP_FORMAT_PPROF, "pb.gz.cpu", AP_FORMAT_PPROF},
    };

    (void)state;
    expect_places(places, sizeof(places) / sizeof(places[0]));
}

/* System calls without --stacks beside kinds that have stacks. */
static void paths_without_stacks(void **state)
{
    static const struct place places[] = {
        {"a.svg", AP_KIND_SYSCALL, true, false, AP_FORMAT_SVG, "a.syscall.txt", AP_FORMAT_TEXT},
        {"a.pb.gz", AP_KIND_SYSCALL, true, false, AP_FORMAT_PPROF, "a.syscall.txt", AP_FORMAT_TEXT},
        {"a.COLLAPSED", AP_KIND_SYSCALL, true, false, AP_FORMAT_COLLAPSED, "a.syscall.txt", AP_FORMAT_TEXT},
        {"profile", AP_KIND_SYSCALL, true, false, AP_FORMAT_SVG, "profile.syscall.txt", AP_FORMAT_TEXT},
        {"a.TXT", AP_KIND_SYSCALL, true, false, AP_FORMAT_TEXT, "a.syscall.TXT", AP_FORMAT_TEXT},
        {"a.json", AP_KIND_SYSCALL, true, false, AP_FORMAT_JSON, "a.json", AP_FORMAT_JSON},
    };

    (void)state;
    expect_places(places, sizeof(places) / sizeof(places[0]));
}

static void paths_too_long(void **state)
{
    static char name[2 * PATH_MAX], path[PATH_MAX];
    enum ap_format format = AP_FORMAT_SVG;
    const size_t room = PATH_MAX - 1 - strlen(".svg"), more = strlen(".cpu");

    (void)state;
    memset(name, 'n', sizeof(name));
    memcpy(name + room, ".svg", sizeof(".svg"));
    assert_int_equal(ap_output_path(name, AP_KIND_CPU, false, true, &format, path), 0);
    assert_string_equal(path, name);
    assert_int_equal(ap_output_path(name, AP_KIND_CPU, true, true, &format, path), -ENAMETOOLONG);
    memset(name, 'n', sizeof(name));
    memcpy(name + room - more, ".svg", sizeof(".svg"));
    assert_int_equal(ap_output_path(name, AP_KIND_CPU, true, true, &format, path), 0);
    assert_int_equal(strlen(path), PATH_MAX - 1);
    assert_string_equal(path + PATH_MAX - 1 - strlen("n.cpu.svg"), "n.cpu.svg");
    assert_int_equal(ap_output_path(name, AP_KIND_OFFCPU, true, true, &format, path), -ENAMETOOLONG);
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(ap_output_path(name, AP_KIND_CPU, false, true, &format, path), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_file),
        cmocka_unit_test(plain_name),
        cmocka_unit_test(symbolic_link),
        cmocka_unit_test(atomic_replacement),
        cmocka_unit_test(failure_leaves_the_old_file),
        cmocka_unit_test(where_nothing_can_be_written),
        cmocka_unit_test(devices),
        cmocka_unit_test(pipes),
        cmocka_unit_test(standard_output),
        cmocka_unit_test(mode_bits),
        cmocka_unit_test(paths_of_one_kind),
        cmocka_unit_test(paths_of_several_kinds),
        cmocka_unit_test(paths_without_stacks),
        cmocka_unit_test(paths_too_long),
    };

    return cmocka_run_group_tests(tests, make_capture, free_capture);
}
