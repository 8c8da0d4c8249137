/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/spool.h"

#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#define NOW 1000ULL

static struct files files;

static int make_dir(void **state)
{
    (void)state;
    files_begin(&files);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    files_end(&files);
    return 0;
}

static struct ap_spool *open_spool(uint64_t max_sz, uint64_t now_ns)
{
    struct ap_error err = {0};
    struct ap_spool *spool = ap_spool_open(files.dir, max_sz, now_ns, &err);

    if (!spool)
        fail_msg("%s", err.text);
    return spool;
}

static struct ap_spool_id add(struct ap_spool *spool, const char *text, uint64_t events)
{
    struct ap_spool_id id = {0};

    assert_int_equal(ap_spool_add(spool, text, strlen(text), events, &id), 0);
    return id;
}

static struct ap_spool_id expect_oldest(struct ap_spool *spool, const char *text)
{
    struct ap_spool_id id = {0};
    struct ap_buf data;

    ap_buf_init(&data, 1 << 20);
    assert_int_equal(ap_spool_oldest(spool, &id, &data), 0);
    assert_int_equal(data.len, strlen(text));
    assert_memory_equal(data.data, text, data.len);
    ap_buf_done(&data);
    return id;
}

static void expect_empty(struct ap_spool *spool)
{
    struct ap_spool_id id;
    struct ap_buf data;

    ap_buf_init(&data, 1 << 20);
    assert_int_equal(ap_spool_oldest(spool, &id, &data), -ENOENT);
    ap_buf_done(&data);
}

static struct ap_spool_stats stats_of(struct ap_spool *spool)
{
    struct ap_spool_stats stats;

    ap_spool_stats(spool, &stats);
    return stats;
}

static size_t count_files(void)
{
    DIR *list = opendir(files.dir);
    struct dirent *item;
    size_t cnt = 0;

    assert_non_null(list);
    while ((item = readdir(list)))
        cnt += strstr(item->d_name, ".batch") != NULL;
    closedir(list);
    return cnt;
}

static void test_first_in_first_out(void **state)
{
    struct ap_spool *spool = open_spool(1 << 20, NOW);
    struct ap_spool_id id;

    (void)state;
    expect_empty(spool);
    id = add(spool, "one", 1);
    assert_int_equal(id.epoch, NOW);
    assert_int_equal(id.sequence, 1);
    assert_int_equal(add(spool, "two", 2).sequence, 2);
    assert_int_equal(stats_of(spool).batches, 2);
    assert_int_equal(stats_of(spool).bytes, 6);
    expect_oldest(spool, "one"); /* stays until it is removed */
    id = expect_oldest(spool, "one");
    ap_spool_remove(spool, &id);
    ap_spool_remove(spool, &id); /* unknown by now */
    id = expect_oldest(spool, "two");
    ap_spool_remove(spool, &id);
    expect_empty(spool);
    assert_int_equal(count_files(), 0);
    assert_int_equal(stats_of(spool).dropped_batches, 0);
    ap_spool_close(spool);
}

static void test_survives_a_restart(void **state)
{
    struct ap_spool *spool = open_spool(1 << 20, NOW);
    struct ap_spool_id id;

    (void)state;
    add(spool, "one", 1);
    add(spool, "two", 2);
    ap_spool_sync(spool);
    ap_spool_close(spool);
    spool = open_spool(1 << 20, NOW + 5);
    assert_int_equal(stats_of(spool).batches, 2);
    id = add(spool, "three", 3);
    assert_int_equal(id.epoch, NOW + 5);
    assert_int_equal(id.sequence, 1);
    ap_spool_close(spool);
    spool = open_spool(1 << 20, NOW); /* the clock went back: new batches still come last */
    assert_int_equal(add(spool, "four", 4).epoch, NOW + 6);
    id = expect_oldest(spool, "one");
    assert_int_equal(id.epoch, NOW);
    ap_spool_remove(spool, &id);
    id = expect_oldest(spool, "two");
    ap_spool_remove(spool, &id);
    id = expect_oldest(spool, "three");
    ap_spool_remove(spool, &id);
    expect_oldest(spool, "four");
    ap_spool_close(spool);
}

static void test_oldest_go_when_full(void **state)
{
    struct ap_spool *spool = open_spool(10, NOW);
    struct ap_spool_stats stats;
    struct ap_spool_id id;

    (void)state;
    add(spool, "aaaa", 1);
    add(spool, "bbbb", 2);
    add(spool, "cccc", 4);
    stats = stats_of(spool);
    assert_int_equal(stats.batches, 2);
    assert_int_equal(stats.dropped_batches, 1);
    assert_int_equal(stats.dropped_full, 1);
    assert_int_equal(stats.dropped_events, 1);
    expect_oldest(spool, "bbbb");
    assert_int_equal(ap_spool_add(spool, "ddddeeeefff", 11, 8, &id), -E2BIG); /* larger than all of it */
    assert_int_equal(stats_of(spool).dropped_events, 9);
    assert_int_equal(stats_of(spool).batches, 2);
    ap_spool_close(spool);
    spool = open_spool(4, NOW + 1); /* a smaller one now */
    assert_int_equal(stats_of(spool).dropped_full, 1);
    expect_oldest(spool, "cccc");
    ap_spool_close(spool);
}

static void test_refused_ones_are_counted(void **state)
{
    struct ap_spool *spool = open_spool(1 << 20, NOW);
    struct ap_spool_id id = add(spool, "bad", 7);

    (void)state;
    add(spool, "good", 1);
    ap_spool_refuse(spool, &id);
    assert_int_equal(stats_of(spool).dropped_refused, 1);
    assert_int_equal(stats_of(spool).dropped_events, 7);
    expect_oldest(spool, "good");
    ap_spool_close(spool);
}

/* Changes a byte, or cuts the file, of the batch (NOW, sequence). */
static void damage(uint64_t sequence, off_t cut_to, off_t flip_at)
{
    char path[256], byte;
    int fd;

    snprintf(path, sizeof(path), "%s/%020llu-%020llu.batch", files.dir, NOW, (unsigned long long)sequence);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    if (cut_to >= 0)
        assert_int_equal(ftruncate(fd, cut_to), 0);
    if (flip_at >= 0) {
        assert_int_equal(pread(fd, &byte, 1, flip_at), 1);
        byte = (char)~byte;
        assert_int_equal(pwrite(fd, &byte, 1, flip_at), 1);
    }
    close(fd);
}

static void test_damaged_files(void **state)
{
    struct ap_spool *spool = open_spool(1 << 20, NOW);
    struct ap_spool_stats stats;

    (void)state;
    add(spool, "one", 1);
    add(spool, "two", 2);
    add(spool, "three", 4);
    add(spool, "four", 8);
    add(spool, "five", 16);
    ap_spool_close(spool);
    damage(1, 0, -1);
    damage(2, 20, -1);
    damage(3, -1, 0);
    damage(4, -1, 48); /* the payload: seen when it is read */
    spool = open_spool(1 << 20, NOW + 1);
    assert_int_equal(stats_of(spool).batches, 2);
    expect_oldest(spool, "five");
    stats = stats_of(spool);
    assert_int_equal(stats.dropped_damaged, 4);
    assert_int_equal(stats.dropped_events, 8); /* of the others it is not known */
    assert_int_equal(count_files(), 1);
    ap_spool_close(spool);
}

static void test_strange_files(void **state)
{
    char path[256];
    struct ap_spool *spool;
    int fd;

    (void)state;
    snprintf(path, sizeof(path), "%s/00000000000000001000-00000000000000000001.tmp", files.dir);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    snprintf(path, sizeof(path), "%s/README.batch", files.dir);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    spool = open_spool(1 << 20, NOW);
    expect_empty(spool);
    assert_int_equal(access(path, F_OK), 0); /* not ours */
    snprintf(path, sizeof(path), "%s/00000000000000001000-00000000000000000001.tmp", files.dir);
    assert_int_not_equal(access(path, F_OK), 0);
    ap_spool_close(spool);
}

static void test_one_process_each(void **state)
{
    struct ap_spool *spool = open_spool(1 << 20, NOW);
    struct ap_error err = {0};

    (void)state;
    assert_null(ap_spool_open(files.dir, 1 << 20, NOW, &err)); /* flock is by open file, so this holds here too */
    assert_int_equal(err.code, -EBUSY);
    assert_non_null(strstr(err.text, "--spool-dir"));
    ap_spool_close(spool);
    spool = open_spool(1 << 20, NOW);
    ap_spool_close(spool);
}

static void test_places(void **state)
{
    struct ap_error err = {0};
    struct ap_spool *spool;
    char path[256];
    struct stat st;

    (void)state;
    snprintf(path, sizeof(path), "%s/a/b/c", files.dir);
    spool = ap_spool_open(path, 1 << 20, NOW, &err);
    assert_non_null(spool);
    assert_string_equal(ap_spool_dir(spool), path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    ap_spool_close(spool);
    snprintf(path, sizeof(path), "%s/file", files.dir);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_null(ap_spool_open(path, 1 << 20, NOW, &err));
    assert_non_null(strstr(err.text, path));
}

static void test_many(void **state)
{
    struct ap_spool *spool = open_spool(1 << 20, NOW);
    struct ap_spool_id id;
    struct ap_buf data;
    char text[32];
    int i;

    (void)state;
    for (i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "batch %d", i);
        add(spool, text, 1);
    }
    ap_spool_sync(spool);
    ap_buf_init(&data, 1 << 20);
    for (i = 0; i < 1000; i++) {
        assert_int_equal(ap_spool_oldest(spool, &id, &data), 0);
        assert_int_equal(id.sequence, i + 1);
        ap_spool_remove(spool, &id);
    }
    ap_buf_done(&data);
    expect_empty(spool);
    ap_spool_close(spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_in_first_out, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_survives_a_restart, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_oldest_go_when_full, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_refused_ones_are_counted, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_damaged_files, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_strange_files, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_one_process_each, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_places, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_many, make_dir, remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
