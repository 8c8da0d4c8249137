/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/options.h"
#include "exhaust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct config {
    bool verbose;
    uint64_t frequency;
    uint64_t interval;
    uint64_t memory;
    const char *output;
    uint32_t mode;
    struct ap_option_list pids;
    struct ap_option_list files;
    uint64_t plain;
    bool quiet;
};

static const char *const modes[] = {"cpu", "off-cpu", "memory", NULL};

#define FIELD(field) .offset = offsetof(struct config, field)

static const struct ap_option options[] = {
    {.type = AP_OPTION_GROUP, .help = "Sampling"},
    {.name = "frequency",
     .short_name = 'f',
     .type = AP_OPTION_U64,
     FIELD(frequency),
     .def = "99",
     .min = 1,
     .max = 10000,
     .metavar = "HZ",
     .env = "TEST_FREQUENCY",
     .help = "Samples per second and CPU."},
    {.name = "flush-interval",
     .type = AP_OPTION_DURATION,
     FIELD(interval),
     .def = "1.5s",
     .min = 10000000,
     .max = 3600000000000,
     .env = "TEST_INTERVAL",
     .help = "How often results are written, in words that are long enough to need a second line of help."},
    {.name = "max-memory", .type = AP_OPTION_SIZE, FIELD(memory), .def = "64M", .min = 1 << 20, .help = "Memory."},
    {.name = "mode",
     .short_name = 'm',
     .type = AP_OPTION_CHOICE,
     FIELD(mode),
     .def = "cpu",
     .choices = modes,
     .metavar = "MODE",
     .env = "TEST_MODE",
     .help = "What | to measure <here>."},
    {.type = AP_OPTION_GROUP, .help = "Results"},
    {.name = "output",
     .short_name = 'o',
     .type = AP_OPTION_STRING,
     FIELD(output),
     .env = "TEST_OUTPUT",
     .metavar = "FILE",
     .help = "Where to."},
    {.name = "pid", .short_name = 'p', .type = AP_OPTION_LIST, FIELD(pids), .env = "TEST_PID", .help = "Processes."},
    {.name = "save", .type = AP_OPTION_PATHS, FIELD(files), .env = "TEST_SAVE", .help = "Files."},
    {.name = "verbose",
     .short_name = 'v',
     .type = AP_OPTION_BOOL,
     FIELD(verbose),
     .env = "TEST_VERBOSE",
     .help = "Say more."},
    {.name = "quiet", .short_name = 'q', .type = AP_OPTION_BOOL, FIELD(quiet), .help = "Say less."},
    {.name = "plain", .type = AP_OPTION_U64, FIELD(plain), .help = "Unbounded."},
    {0},
};

static const struct ap_options_spec spec = {
    .program = "test-prog",
    .version = "1.2.3",
    .synopsis = "--mode cpu [OPTION...]",
    .summary = "Does a thing.",
    .epilog = "Examples:\n  test-prog --mode cpu",
    .options = options,
};

static const struct ap_options_spec args_spec = {
    .program = "test-prog",
    .version = "1.2.3",
    .options = options,
    .allow_args = true,
};

static struct config config;
static struct ap_error err;
static int first_arg;

#define MAX_ARGS 100

static int parse_with(const struct ap_options_spec *which, const char *const *args)
{
    static char texts[MAX_ARGS][64];
    char *argv[MAX_ARGS + 2] = {(char[]){"test-prog"}};
    int argc = 1;

    for (; *args; args++, argc++) {
        assert_in_range(argc, 1, MAX_ARGS - 1);
        assert_in_range(snprintf(texts[argc], sizeof(texts[argc]), "%s", *args), 0, sizeof(texts[argc]) - 1);
        argv[argc] = texts[argc];
    }
    first_arg = -1;
    memset(&config, 0xAA, sizeof(config));
    return ap_options_parse(which, &config, sizeof(config), argc, argv, &first_arg, &err);
}

/* PARSE(NULL) is the empty command line. */
#define PARSE(...)      parse_with(&spec, (const char *const[]){__VA_ARGS__, NULL})
#define PARSE_ARGS(...) parse_with(&args_spec, (const char *const[]){__VA_ARGS__, NULL})

static void assert_text(const char *part)
{
    if (!strstr(err.text, part))
        fail_msg("'%s' is not in '%s'", part, err.text);
}

/* The run failed as it should, and says all of this. */
static void check_error(int rc, int wanted, const char *a, const char *b, const char *c)
{
    if (rc != wanted)
        fail_msg("got %d, not %d ('%s')", rc, wanted, err.text);
    assert_int_equal(err.code, wanted);
    assert_text(a);
    assert_text(b);
    assert_text(c);
    assert_int_equal(config.pids.cnt, 0); /* nothing left to free */
    assert_int_equal(config.files.cnt, 0);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(PARSE(NULL), AP_OPTIONS_RUN);
    assert_int_equal(config.frequency, 99);
    assert_int_equal(config.interval, 1500000000);
    assert_int_equal(config.memory, 64 << 20);
    assert_int_equal(config.mode, 0);
    assert_null(config.output);
    assert_false(config.verbose);
    assert_int_equal(config.pids.cnt, 0);
    assert_int_equal(config.plain, 0);
    assert_int_equal(first_arg, 1);
    assert_int_equal(err.code, 0);
    ap_options_done(&spec, &config);
    ap_options_done(&spec, NULL);
}

static void test_command_line(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--frequency=500", "--flush-interval", "250ms", "--max-memory=1.5G", "-m", "off-cpu",
                           "-vqoout.svg", "-p12", "--plain=0"),
                     AP_OPTIONS_RUN);
    assert_int_equal(config.frequency, 500);
    assert_int_equal(config.interval, 250000000);
    assert_int_equal(config.memory, 1610612736);
    assert_int_equal(config.mode, 1);
    assert_string_equal(config.output, "out.svg");
    assert_true(config.verbose);
    assert_true(config.quiet);
    assert_int_equal(config.pids.cnt, 1);
    assert_string_equal(config.pids.items[0], "12");
    assert_int_equal(first_arg, 10);
    ap_options_done(&spec, &config);
    assert_int_equal(config.pids.cnt, 0);
}

static void test_later_wins_and_bounds_are_inclusive(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-f", "5", "--frequency=1"), AP_OPTIONS_RUN);
    assert_int_equal(config.frequency, 1);
    assert_int_equal(PARSE("-f5", "-f", "10000"), AP_OPTIONS_RUN);
    assert_int_equal(config.frequency, 10000);
}

static void test_environment(void **state)
{
    (void)state;
    setenv("TEST_FREQUENCY", "200", 1);
    setenv("TEST_MODE", "memory", 1);
    setenv("TEST_OUTPUT", "env.svg", 1);
    setenv("TEST_PID", "1,2", 1);
    setenv("TEST_SAVE", "x,y", 1);
    setenv("TEST_INTERVAL", "", 1); /* empty is unset */
    static const char *const yes[] = {"1", "true", "YES"};
    static const char *const no[] = {"0", "False", "no", ""};

    for (size_t i = 0; i < 3; i++) {
        setenv("TEST_VERBOSE", yes[i], 1);
        assert_int_equal(PARSE(NULL), AP_OPTIONS_RUN);
        assert_true(config.verbose);
        ap_options_done(&spec, &config);
    }
    for (size_t i = 0; i < 4; i++) {
        setenv("TEST_VERBOSE", no[i], 1);
        assert_int_equal(PARSE(NULL), AP_OPTIONS_RUN);
        assert_false(config.verbose);
        ap_options_done(&spec, &config);
    }
    assert_int_equal(PARSE("-v"), AP_OPTIONS_RUN);
    assert_true(config.verbose);
    assert_int_equal(config.frequency, 200);
    assert_int_equal(config.mode, 2);
    assert_int_equal(config.interval, 1500000000);
    assert_string_equal(config.output, "env.svg");
    assert_int_equal(config.pids.cnt, 2);
    assert_int_equal(config.files.cnt, 1);
    assert_string_equal(config.files.items[0], "x,y");
    ap_options_done(&spec, &config);

    /* the command line wins, and a list replaces rather than extends */
    assert_int_equal(PARSE("--frequency", "300", "--pid=7", "-o", "", "-mcpu"), AP_OPTIONS_RUN);
    assert_int_equal(config.frequency, 300);
    assert_int_equal(config.mode, 0);
    assert_string_equal(config.output, "");
    assert_int_equal(config.pids.cnt, 1);
    assert_string_equal(config.pids.items[0], "7");
    ap_options_done(&spec, &config);
}

static void clear_environment(void)
{
    static const char *const names[] = {"TEST_FREQUENCY", "TEST_MODE",     "TEST_OUTPUT", "TEST_PID",
                                        "TEST_SAVE",      "TEST_INTERVAL", "TEST_VERBOSE"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

static void test_environment_errors_name_the_variable(void **state)
{
    (void)state;
    clear_environment();
    setenv("TEST_FREQUENCY", "0", 1);
    check_error(PARSE("-p1,2"), -ERANGE, "TEST_FREQUENCY", "--frequency", "1 to 10000");
    assert_int_equal(PARSE("-f7"), AP_OPTIONS_RUN); /* not read when the flag is there */
    clear_environment();
    setenv("TEST_VERBOSE", "maybe", 1);
    check_error(PARSE(NULL), -EINVAL, "TEST_VERBOSE", "'maybe'", "true");
    clear_environment();
    setenv("TEST_PID", "1,,2", 1);
    check_error(PARSE(NULL), -EINVAL, "TEST_PID", "'1,,2'", "empty");
    clear_environment();
}

static void test_lists(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--pid", "1,22", "-p", "333", "--save=a,b", "--save", "-c"), AP_OPTIONS_RUN);
    assert_int_equal(config.pids.cnt, 3);
    assert_string_equal(config.pids.items[0], "1");
    assert_string_equal(config.pids.items[1], "22");
    assert_string_equal(config.pids.items[2], "333");
    assert_int_equal(config.files.cnt, 2);
    assert_string_equal(config.files.items[0], "a,b");
    assert_string_equal(config.files.items[1], "-c");
    ap_options_done(&spec, &config);

    check_error(PARSE("-p1", "--save=x", "--pid=1,"), -EINVAL, "--pid", "'1,'", "empty");
    check_error(PARSE("--pid="), -EINVAL, "--pid", "empty", "");
    check_error(PARSE("--save="), -EINVAL, "--save", "path", "");
}

static void test_list_bound(void **state)
{
    (void)state;
    const char *args[AP_OPTION_LIST_MAX + 2] = {0};

    for (int i = 0; i < AP_OPTION_LIST_MAX; i++)
        args[i] = "-p1";
    assert_int_equal(parse_with(&spec, args), AP_OPTIONS_RUN);
    assert_int_equal(config.pids.cnt, AP_OPTION_LIST_MAX);
    ap_options_done(&spec, &config);
    args[AP_OPTION_LIST_MAX] = "-p77";
    check_error(parse_with(&spec, args), -ERANGE, "--pid", "'77'", "64");
}

static void test_bounds_name_option_value_and_range(void **state)
{
    (void)state;
    check_error(PARSE("--frequency=0"), -ERANGE, "--frequency", "'0'", "1 to 10000");
    check_error(PARSE("-f", "10001"), -ERANGE, "--frequency", "'10001'", "1 to 10000");
    check_error(PARSE("-f99999999999999999999"), -ERANGE, "--frequency", "'99999999999999999999'", "1 to 10000");
    check_error(PARSE("--flush-interval=1ms"), -ERANGE, "--flush-interval", "'1ms'", "10ms to 1h");
    check_error(PARSE("--flush-interval=2h"), -ERANGE, "--flush-interval", "'2h'", "10ms to 1h");
    check_error(PARSE("--max-memory=1K"), -ERANGE, "--max-memory", "'1K'", "at least 1M");
    check_error(PARSE("--plain=99999999999999999999"), -ERANGE, "--plain", "too large", "18446744073709551615");
}

static void test_malformed_values(void **state)
{
    (void)state;
    check_error(PARSE("--frequency=often"), -EINVAL, "--frequency", "'often'", "digits");
    check_error(PARSE("--flush-interval", "5x"), -EINVAL, "--flush-interval", "'5x'", "1h30m");
    check_error(PARSE("--max-memory", "lots"), -EINVAL, "--max-memory", "'lots'", "64M");
    check_error(PARSE("--frequency="), -EINVAL, "--frequency", "''", "");
    check_error(PARSE("--frequency", "-5"), -EINVAL, "--frequency", "'-5'", "");
}

static void test_choice_errors_list_the_choices(void **state)
{
    (void)state;
    check_error(PARSE("--mode=gpu"), -EINVAL, "--mode", "'gpu'", "cpu, off-cpu, memory");
    check_error(PARSE("-m", "cp"), -EINVAL, "--mode", "'cp'", "cpu, off-cpu, memory");
    check_error(PARSE("-m", ""), -EINVAL, "--mode", "''", "cpu, off-cpu, memory");
}

static void test_unknown_options(void **state)
{
    (void)state;
    check_error(PARSE("--frequencey=5"), -EINVAL, "unknown option '--frequencey'", "--frequency", "did you mean");
    check_error(PARSE("--flush_intervall", "5"), -EINVAL, "'--flush-intervall'", "'--flush-interval'", "");
    check_error(PARSE("--freq=5"), -EINVAL, "unknown option '--freq'", "'--frequency'", "");
    check_error(PARSE("--versoin"), -EINVAL, "'--versoin'", "'--version'", "");
    check_error(PARSE("-mode"), -EINVAL, "--mode", "'ode'", ""); /* -m ode */
    check_error(PARSE("-Z"), -EINVAL, "unknown option '-Z'", "--help", "");
    check_error(PARSE("-vZ"), -EINVAL, "unknown option '-vZ'", "", "");
    check_error(PARSE("-save"), -EINVAL, "unknown option '-save'", "did you mean '--save'", "");

    check_error(PARSE("--zzzzzzzz"), -EINVAL, "'--zzzzzzzz'", "--help", "");
    assert_null(strstr(err.text, "did you mean"));
    check_error(PARSE("---"), -EINVAL, "unknown option", "", "");
    check_error(PARSE("--=x"), -EINVAL, "unknown option", "", "");
}

static void test_missing_and_unwanted_values(void **state)
{
    (void)state;
    check_error(PARSE("--frequency"), -EINVAL, "'--frequency'", "needs a value", "");
    check_error(PARSE("-v", "-f"), -EINVAL, "'-f'", "needs a value", "");
    check_error(PARSE("--verbose=yes"), -EINVAL, "'--verbose'", "no value", "'yes'");
}

static void test_underscores(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--flush_interval=20ms", "--max_memory", "2M"), AP_OPTIONS_RUN);
    assert_int_equal(config.interval, 20000000);
    assert_int_equal(config.memory, 2 << 20);
    /* in names only */
    assert_int_equal(PARSE("--output=my_file", "--save", "--flush_interval"), AP_OPTIONS_RUN);
    assert_string_equal(config.output, "my_file");
    assert_string_equal(config.files.items[0], "--flush_interval");
    ap_options_done(&spec, &config);
}

static void test_strings_point_into_argv(void **state)
{
    (void)state;
    char program[] = "p";
    char joined[] = "--output=a=b";
    char *argv[] = {program, joined, NULL};

    assert_int_equal(ap_options_parse(&spec, &config, sizeof(config), 2, argv, NULL, NULL), AP_OPTIONS_RUN);
    assert_ptr_equal(config.output, joined + 9);
    assert_string_equal(config.output, "a=b");
    assert_string_equal(joined, "--output=a=b");
}

static void test_positional_arguments(void **state)
{
    (void)state;
    check_error(PARSE("-v", "file"), -EINVAL, "unexpected argument 'file'", "", "");
    check_error(PARSE("--", "-v"), -EINVAL, "unexpected argument '-v'", "", "");
    assert_int_equal(PARSE("-v", "--"), AP_OPTIONS_RUN);
    assert_int_equal(first_arg, 3);

    assert_int_equal(PARSE_ARGS("-v", "ls", "--frequency=5"), AP_OPTIONS_RUN);
    assert_int_equal(first_arg, 2);
    assert_int_equal(config.frequency, 99); /* belongs to ls */
    assert_int_equal(PARSE_ARGS("-f", "5", "--", "-q", "--bad"), AP_OPTIONS_RUN);
    assert_int_equal(first_arg, 4);
    assert_false(config.quiet);
    assert_int_equal(PARSE_ARGS("-f", "--", "x"), -EINVAL); /* "--" is the value */
    assert_int_equal(PARSE_ARGS("-"), AP_OPTIONS_RUN);
    assert_int_equal(first_arg, 1);
    assert_int_equal(PARSE_ARGS("-v"), AP_OPTIONS_RUN);
    assert_int_equal(first_arg, 2);
    assert_int_equal(PARSE_ARGS("--"), AP_OPTIONS_RUN);
    assert_int_equal(first_arg, 2);
}

static void test_no_program_name(void **state)
{
    (void)state;
    char *argv[] = {NULL};

    assert_int_equal(ap_options_parse(&spec, &config, sizeof(config), 0, argv, &first_arg, &err), AP_OPTIONS_RUN);
    assert_int_equal(config.frequency, 99);
    assert_int_equal(first_arg, 0);
}

static void test_wrong_table_is_reported(void **state)
{
    (void)state;
    static const struct ap_option rows[] = {
        {.name = "n", .type = AP_OPTION_U64, FIELD(plain), .def = "5", .min = 10, .help = "N."},
        {0},
    };
    static const struct ap_options_spec wrong = {.program = "p", .version = "1", .options = rows};

    check_error(parse_with(&wrong, (const char *const[]){NULL}), -ERANGE, "default of --n", "'5'", "at least 10");
}

static int run_to_file(const char *arg, char *ret, size_t ret_sz)
{
    char path[] = "/tmp/test-options-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    (void)fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
    int rc = PARSE("-v", arg, "--bad-but-never-reached");
    (void)fflush(stdout);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    close(saved);
    ssize_t len = pread(fd, ret, ret_sz - 1, 0);
    assert_true(len >= 0);
    ret[len] = '\0';
    close(fd);
    return rc;
}

static void test_version_and_help_print_and_end(void **state)
{
    (void)state;
    static char text[8192];
    static char help[8192];

    setenv("TEST_FREQUENCY", "bad", 1); /* no obstacle to reading the help */
    assert_int_equal(run_to_file("--version", text, sizeof(text)), AP_OPTIONS_EXIT);
    assert_string_equal(text, "test-prog 1.2.3\n");
    assert_int_equal(run_to_file("-V", text, sizeof(text)), AP_OPTIONS_EXIT);
    assert_string_equal(text, "test-prog 1.2.3\n");
    assert_int_equal(run_to_file("--help", help, sizeof(help)), AP_OPTIONS_EXIT);
    assert_int_equal(strncmp(help, "Usage: test-prog --mode cpu [OPTION...]\n", 40), 0);
    assert_int_equal(run_to_file("-qh", text, sizeof(text)), AP_OPTIONS_EXIT);
    assert_string_equal(text, help);
    clear_environment();
}

static void test_help_that_cannot_be_written(void **state)
{
    (void)state;
    (void)fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(dup2(full, STDOUT_FILENO), STDOUT_FILENO);
    int rc = PARSE("--help");
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    close(saved);
    close(full);
    check_error(rc, -ENOSPC, "standard output", "No space left", "");
}

static char *render(void (*fn)(const struct ap_options_spec *, struct ap_out *), const struct ap_options_spec *which)
{
    static struct ap_buf buf;

    ap_buf_done(&buf);
    ap_buf_init(&buf, 1 << 16);
    struct ap_out *out = ap_out_new_buf(&buf);
    fn(which, out);
    assert_int_equal(ap_out_flush(out), 0);
    ap_out_free(out);
    return buf.data;
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void test_help_text(void **state)
{
    (void)state;
    const char *text = render(ap_options_help, &spec);

    assert_contains(text, "\nDoes a thing.\n");
    assert_contains(text,
                    "\nSampling:\n  -f, --frequency=HZ          Samples per second and CPU. Range: 1 to 10000.\n");
    assert_contains(text, "Default: 99.");
    assert_contains(text, "Environment: TEST_FREQUENCY.");
    assert_contains(text, "      --flush-interval=DURATION\n                              How often");
    assert_contains(text, "10ms to 1h.");
    assert_contains(text, "at least 1M.");
    assert_contains(text, "One of: cpu,");
    assert_contains(text, "memory.");
    assert_contains(text, "\nResults:\n");
    assert_contains(text, "\n  -v, --verbose               Say more.");
    assert_contains(text, "\n  -h, --help ");
    assert_contains(text, "\n  -V, --version ");
    assert_contains(text, "\n\nExamples:\n  test-prog --mode cpu\n");
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        size_t len = strcspn(line, "\n");
        assert_in_range(len, 0, 79);
        assert_true(len == 0 || line[len - 1] != ' ');
    }
}

static void test_own_short_names_win(void **state)
{
    (void)state;
    static const struct ap_option rows[] = {
        {.name = "host", .short_name = 'h', .type = AP_OPTION_STRING, FIELD(output), .help = "Host."},
        {0},
    };
    static const struct ap_options_spec own = {.program = "p", .version = "1", .options = rows};
    const char *text = render(ap_options_help, &own);

    assert_contains(text, "Usage: p [OPTION...]\n\n  -h, --host=TEXT ");
    assert_contains(text, "\n      --help ");
    assert_int_equal(parse_with(&own, (const char *const[]){"-hx", NULL}), AP_OPTIONS_RUN);
    assert_string_equal(config.output, "x");
}

static void test_markdown(void **state)
{
    (void)state;
    const char *text = render(ap_options_markdown, &spec);

    assert_contains(text, "## test-prog\n\nDoes a thing.\n");
    assert_contains(text, "\n    test-prog --mode cpu [OPTION...]\n");
    assert_contains(text, "\n### Sampling\n\n| Option | Default | Accepts | Environment | Meaning |\n");
    assert_contains(text,
                    "| `-f, --frequency=HZ` | `99` | 1 to 10000 | `TEST_FREQUENCY` | Samples per second and CPU. |");
    assert_contains(text, "| `cpu`, `off-cpu`, `memory` | `TEST_MODE` | What \\| to measure \\<here>. |");
    assert_contains(text, "| `-v, --verbose` |  |  | `TEST_VERBOSE` | Say more. |");
    assert_contains(text, "\n### General\n");
    assert_contains(text, "`-h, --help`");
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct exhaust exhaust;
    char program[] = "p";
    char list[] = "--pid=1";
    char help[] = "--help";
    char *argv[] = {program, list, NULL};
    char *help_argv[] = {program, help, NULL};

    if (EXHAUST_SKIP)
        skip();
    exhaust_begin(&exhaust, 0);
    int rc = ap_options_parse(&spec, &config, sizeof(config), 2, argv, NULL, &err);
    int help_rc = ap_options_parse(&spec, &config, sizeof(config), 2, help_argv, NULL, NULL);
    exhaust_end(&exhaust);
    assert_int_equal(help_rc, -ENOMEM);
    check_error(rc, -ENOMEM, "memory", "", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_later_wins_and_bounds_are_inclusive),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_environment_errors_name_the_variable),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_list_bound),
        cmocka_unit_test(test_bounds_name_option_value_and_range),
        cmocka_unit_test(test_malformed_values),
        cmocka_unit_test(test_choice_errors_list_the_choices),
        cmocka_unit_test(test_unknown_options),
        cmocka_unit_test(test_missing_and_unwanted_values),
        cmocka_unit_test(test_underscores),
        cmocka_unit_test(test_strings_point_into_argv),
        cmocka_unit_test(test_positional_arguments),
        cmocka_unit_test(test_no_program_name),
        cmocka_unit_test(test_wrong_table_is_reported),
        cmocka_unit_test(test_version_and_help_print_and_end),
        cmocka_unit_test(test_help_that_cannot_be_written),
        cmocka_unit_test(test_help_text),
        cmocka_unit_test(test_own_short_names_win),
        cmocka_unit_test(test_markdown),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
