/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/perfmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Parses a copy of exactly the text's size, so that the sanitizer sees what is read past it. */
static struct ap_perfmap *parse_len(const char *text, size_t len)
{
    struct ap_perfmap *map = NULL;
    char *copy = malloc(len ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    assert_int_equal(ap_perfmap_parse(copy, len, &map), 0);
    free(copy); /* nothing of it is kept */
    assert_non_null(map);
    return map;
}

static struct ap_perfmap *parse(const char *text)
{
    return parse_len(text, strlen(text));
}

/* `wanted` NULL: no name there. */
static void expect(const struct ap_perfmap *map, uint64_t addr, const char *wanted)
{
    const char *name = ap_perfmap_find(map, addr);

    if (!wanted)
        assert_null(name);
    else
        assert_string_equal(name ? name : "(none)", wanted);
}

static void nothing(void **state)
{
    struct ap_perfmap *map = parse("");

    (void)state;
    expect(map, 0, NULL);
    expect(map, UINT64_MAX, NULL);
    expect(NULL, 0x1000, NULL);
    assert_null(ap_perfmap_free(map));
    assert_null(ap_perfmap_free(NULL));
}

static void functions(void **state)
{
    struct ap_perfmap *map = parse("3000 80 third\n"
                                   "1000 100 void Foo<int>::bar(char const*) [clone .a]\n"
                                   "1100 1 one byte\n"
                                   "7f0012345000 1000 caf\xc3\xa9\n");

    (void)state;
    expect(map, 0xfff, NULL);
    expect(map, 0x1000, "void Foo<int>::bar(char const*) [clone .a]");
    expect(map, 0x10ff, "void Foo<int>::bar(char const*) [clone .a]");
    expect(map, 0x1100, "one byte");
    expect(map, 0x1101, NULL);
    expect(map, 0x307f, "third");
    expect(map, 0x3080, NULL);
    expect(map, 0x7f0012345fff, "caf\xc3\xa9");
    expect(map, UINT64_MAX, NULL);
    ap_perfmap_free(map);
}

static void ways_to_write_a_line(void **state)
{
    struct ap_perfmap *map = parse("0x1000 0x10 prefixed\n"
                                   "0X2000 0X10 capitals\n"
                                   "ABCDEF00 1F mixed\r\n"
                                   "3000\t10\ttabs\n"
                                   "4000   10   blanks   \n"
                                   "0000000000005000 00000010 zeros\n"
                                   "6000 10 \033[31mred;\x01\n"
                                   "7000 10 no line feed at the end");

    (void)state;
    expect(map, 0x100f, "prefixed");
    expect(map, 0x2000, "capitals");
    expect(map, 0xabcdef1e, "mixed");
    expect(map, 0x3000, "tabs");
    expect(map, 0x4000, "blanks");
    expect(map, 0x5000, "zeros");
    expect(map, 0x6000, "\033[31mred;\x01");
    expect(map, 0x7000, "no line feed at the end");
    ap_perfmap_free(map);
}

static void lines_without_sense(void **state)
{
    struct ap_perfmap *map = parse("\n\r\n \n# comment\nfoo bar baz\n"
                                   "1000\n1000 10\n1000 10 \n1000 10 \r\n"
                                   "1000  name\n"
                                   "-1000 10 minus\n"
                                   "1000 -10 minus\n"
                                   "1000g 10 no digit\n"
                                   "1000 10g no digit\n"
                                   " 1000 10 leading blank\n"
                                   "0x 10 no digits\n"
                                   "1000 0x no digits\n"
                                   "1000 0 empty\n"
                                   "1000;10;colons\n"
                                   "11111111111111111 10 too long\n"
                                   "1000 11111111111111111 too long\n"
                                   "2000 10 good\n");

    (void)state;
    expect(map, 0x1000, NULL);
    expect(map, 0x1, NULL);
    expect(map, 0x2000, "good");
    expect(map, 0x1111111111111111, NULL);
    ap_perfmap_free(map);
}

static void ends_of_the_address_space(void **state)
{
    struct ap_perfmap *map = parse("0 10 first\n"
                                   "ffffffffffffff00 ff last\n"
                                   "ffffffffffff0000 10000 wraps to zero\n"
                                   "1000 ffffffffffffffff wraps around\n"
                                   "ffffffffffffffff ffffffffffffffff wraps too\n");

    (void)state;
    expect(map, 0, "first");
    expect(map, 0x10, NULL);
    expect(map, 0x1000, NULL);
    expect(map, 0xffffffffffff0000, NULL);
    expect(map, 0xffffffffffffff00, "last");
    expect(map, 0xfffffffffffffffe, "last");
    expect(map, UINT64_MAX, NULL);
    ap_perfmap_free(map);
}

static void later_lines_win(void **state)
{
    struct ap_perfmap *map;

    (void)state;
    map = parse("1000 100 old\n1000 100 new\n"); /* the same place again */
    expect(map, 0x1000, "new");
    expect(map, 0x10ff, "new");
    ap_perfmap_free(map);

    map = parse("1000 100 old\n1080 100 new\n"); /* over its end */
    expect(map, 0x107f, "old");
    expect(map, 0x1080, "new");
    expect(map, 0x117f, "new");
    ap_perfmap_free(map);

    map = parse("1080 100 old\n1000 100 new\n"); /* over its beginning */
    expect(map, 0x1000, "new");
    expect(map, 0x10ff, "new");
    expect(map, 0x1100, "old");
    expect(map, 0x117f, "old");
    ap_perfmap_free(map);

    map = parse("1000 10 a\n1010 10 b\n1020 10 c\n1000 30 new\n"); /* over all of them */
    expect(map, 0x1000, "new");
    expect(map, 0x1010, "new");
    expect(map, 0x102f, "new");
    ap_perfmap_free(map);

    map = parse("1000 100 old\n1040 10 new\n"); /* inside: the old one's memory was given up */
    expect(map, 0x103f, "old");
    expect(map, 0x1040, "new");
    expect(map, 0x1050, NULL);
    ap_perfmap_free(map);

    map = parse("1040 10 old\n1000 100 new\n");
    expect(map, 0x1040, "new");
    expect(map, 0x1050, "new");
    ap_perfmap_free(map);
}

struct line {
    unsigned start, end;
};

/* The rule, by looking at every line: the latest one that contains the address, but for those of whose memory a later
 * one began at or before it. -1 = none. */
static int rule(const struct line *lines, int cnt, unsigned addr)
{
    for (int i = cnt - 1; i >= 0; i--) {
        bool alive = lines[i].start <= addr && addr < lines[i].end;

        for (int j = i + 1; alive && j < cnt; j++)
            alive = lines[j].start < lines[i].start || lines[j].start > addr;
        if (alive)
            return i;
    }
    return -1;
}

static void any_overlaps(void **state)
{
    struct line lines[12];
    char text[512], wanted[16];
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 5000; round++) {
        int cnt = 1 + round % 12;

        text[0] = '\0';
        for (int i = 0; i < cnt; i++) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            lines[i].start = (unsigned)(seed >> 33) % 40;
            lines[i].end = lines[i].start + 1 + (unsigned)(seed >> 50) % 20;
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%x %x f%d\n", lines[i].start,
                           lines[i].end - lines[i].start, i);
        }
        struct ap_perfmap *map = parse(text);

        for (unsigned addr = 0; addr < 64; addr++) {
            int i = rule(lines, cnt, addr);

            (void)snprintf(wanted, sizeof(wanted), "f%d", i);
            expect(map, addr, i < 0 ? NULL : wanted);
        }
        ap_perfmap_free(map);
    }
}

static void long_names(void **state)
{
    size_t len = AP_PERFMAP_NAME_MAX * 2;
    char *text = malloc(len + 64);
    struct ap_perfmap *map;
    int head;

    (void)state;
    assert_non_null(text);
    head = snprintf(text, 64, "1000 10 ");
    memset(text + head, 'n', len);
    memcpy(text + head + len, "\n2000 10 next\n", 15);
    map = parse(text);
    assert_int_equal(strlen(ap_perfmap_find(map, 0x1000)), AP_PERFMAP_NAME_MAX);
    expect(map, 0x2000, "next");
    ap_perfmap_free(map);
    free(text);
}

static void bytes_that_are_no_text(void **state)
{
    static const char text[] = "1000 10 a\0b\n2000 10 \xff\xfe\n3000 10 x";
    struct ap_perfmap *map = parse_len(text, sizeof(text) - 2); /* cut in the last name */

    (void)state;
    expect(map, 0x1000, "a");
    expect(map, 0x2000, "\xff\xfe");
    expect(map, 0x3000, NULL);
    ap_perfmap_free(map);
}

static void from_a_file(void **state)
{
    int fd = memfd_create("perfmap", MFD_CLOEXEC), ends[2];
    struct ap_perfmap *map = NULL;
    char line[64];
    unsigned i;

    (void)state;
    assert_true(fd >= 0);
    for (i = 0; i < 20000; i++) { /* more than one read */
        int len = snprintf(line, sizeof(line), "%x 10 f%u\n", i * 16, i);

        assert_int_equal(write(fd, line, (size_t)len), len);
    }
    assert_int_equal(ap_perfmap_read(fd, &map), 0); /* from the beginning, wherever the position is */
    for (i = 0; i < 20000; i += 7) {
        (void)snprintf(line, sizeof(line), "f%u", i);
        expect(map, (uint64_t)i * 16 + 15, line);
    }
    ap_perfmap_free(map);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(ap_perfmap_read(fd, &map), 0);
    expect(map, 0, NULL);
    ap_perfmap_free(map);
    close(fd);
    map = NULL;
    assert_int_equal(ap_perfmap_read(fd, &map), -EBADF);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(ap_perfmap_read(ends[0], &map), -ESPIPE);
    assert_null(map);
    close(ends[0]);
    close(ends[1]);
}

static void too_big(void **state)
{
    int fd = memfd_create("perfmap", MFD_CLOEXEC);
    struct ap_perfmap *map = NULL;
    const size_t line_sz = 8, cnt = AP_PERFMAP_ENTRIES_MAX + 1;
    char *text = malloc(line_sz * cnt);
    size_t i;

    (void)state;
    assert_true(fd >= 0);
    assert_non_null(text);
    assert_int_equal(ftruncate(fd, (off_t)AP_PERFMAP_SZ_MAX + 1), 0);
    assert_int_equal(ap_perfmap_read(fd, &map), -EFBIG);
    assert_null(map);
    close(fd);
    assert_int_equal(ap_perfmap_parse("", (size_t)AP_PERFMAP_SZ_MAX + 1, &map), -EFBIG); /* not looked at */
    for (i = 0; i < cnt; i++)
        memcpy(text + i * line_sz, "10 10 f\n", line_sz);
    assert_int_equal(ap_perfmap_parse(text, line_sz * cnt, &map), -EFBIG);
    assert_null(map);
    assert_int_equal(ap_perfmap_parse(text, line_sz * (cnt - 1), &map), 0);
    expect(map, 0x1f, "f");
    ap_perfmap_free(map);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing),
        cmocka_unit_test(functions),
        cmocka_unit_test(ways_to_write_a_line),
        cmocka_unit_test(lines_without_sense),
        cmocka_unit_test(ends_of_the_address_space),
        cmocka_unit_test(later_lines_win),
        cmocka_unit_test(any_overlaps),
        cmocka_unit_test(long_names),
        cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(from_a_file),
        cmocka_unit_test(too_big),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
