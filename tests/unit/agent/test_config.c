/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/config.h"

#include "abi/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char program[] = "aperture-agent";
static struct ap_agent_config config;
static struct ap_error err;

/* Parses "aperture-agent ARGUMENT...", the arguments separated by blanks. */
static int parse(const char *line)
{
    static char text[4096]; /* strings of the configuration point into it */
    char *argv[64] = {program}, *part, *rest = text;
    int argc = 1;

    ap_agent_config_done(&config);
    memset(&err, 0, sizeof(err));
    assert_true(strlen(line) < sizeof(text));
    memcpy(text, line, strlen(line) + 1);
    while ((part = strsep(&rest, " ")) && argc < 63)
        if (*part)
            argv[argc++] = part;
    return ap_agent_config_parse(&config, argc, argv, &err);
}

/* A refusal is a usage error whose words contain `words`. */
static void expect_refused(const char *line, const char *words)
{
    int rc = parse(line);

    if (rc >= 0 || rc != err.code || !strstr(err.text, words))
        fail_msg("\"%s\": rc %d, \"%s\" (wanted: %s)", line, rc, err.text, words);
}

static int clean(void **state)
{
    (void)state;
    unsetenv("APERTURE_FREQUENCY");
    unsetenv("APERTURE_LOG_LEVEL");
    unsetenv("APERTURE_LOG_FORMAT");
    ap_agent_config_done(&config);
    return 0;
}

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(""), AP_OPTIONS_RUN);
    assert_string_equal(config.mode, "cpu");
    assert_int_equal(config.modes, AP_MODE(AP_KIND_CPU));
    assert_int_equal(config.event, 0);
    assert_int_equal(config.frequency, 99);
    assert_int_equal(config.duration_ns, 0);
    assert_int_equal(config.pids.cnt, 0);
    assert_int_equal(config.comms.cnt, 0);
    assert_int_equal(config.outputs.cnt, 0);
    assert_null(config.cgroup);
    assert_int_equal(config.format, AP_FORMAT_CHOICE_AUTO);
    assert_int_equal(config.top, 20);
    assert_false(config.quiet);
    assert_false(config.self_test);
    assert_int_equal(config.ready_fd, 0);
}

static void everything(void **state)
{
    (void)state;
    assert_int_equal(parse("--mode cpu --event cycles -F 999 -d 1m --cgroup /x --comm a,b --comm c -q --top 7 "
                           "--ready-fd 3 --log-level debug --log-format json"),
                     AP_OPTIONS_RUN);
    assert_int_equal(config.event, 1);
    assert_int_equal(config.frequency, 999);
    assert_int_equal(config.duration_ns, 60000000000ULL);
    assert_string_equal(config.cgroup, "/x");
    assert_int_equal(config.comms.cnt, 3);
    assert_string_equal(config.comms.items[2], "c");
    assert_true(config.quiet);
    assert_int_equal(config.top, 7);
    assert_int_equal(config.ready_fd, 3);
}

static void environment(void **state)
{
    (void)state;
    setenv("APERTURE_FREQUENCY", "49", 1);
    assert_int_equal(parse(""), AP_OPTIONS_RUN);
    assert_int_equal(config.frequency, 49);
    assert_int_equal(parse("-F 50"), AP_OPTIONS_RUN); /* the command line wins */
    assert_int_equal(config.frequency, 50);
    setenv("APERTURE_FREQUENCY", "0", 1);
    expect_refused("", "APERTURE_FREQUENCY");
    unsetenv("APERTURE_FREQUENCY");
}

static void pids(void **state)
{
    (void)state;
    assert_int_equal(parse("--pid 1 -p 22,333 --pid 2147483647"), AP_OPTIONS_RUN);
    assert_int_equal(config.pids.cnt, 4);
    assert_int_equal(config.pid_values[0], 1);
    assert_int_equal(config.pid_values[1], 22);
    assert_int_equal(config.pid_values[2], 333);
    assert_int_equal(config.pid_values[3], 2147483647);
    expect_refused("--pid 0", "\"0\" is no process id");
    expect_refused("--pid 2147483648", "is no process id");
    expect_refused("--pid 12,0", "is no process id");
    expect_refused("--pid -1", "--pid");
    expect_refused("--pid abc", "--pid");
    expect_refused("--pid 1.5", "--pid");
    expect_refused("--pid 0x10", "--pid");
    expect_refused("--pid 99999999999999999999", "--pid");
    assert_true(parse("--pid") < 0); /* no value */
}

static void comms(void **state)
{
    char option[] = "--comm", nothing[] = "";
    char *empty[] = {program, option, nothing};

    (void)state;
    assert_int_equal(parse("--comm 123456789012345"), AP_OPTIONS_RUN);
    expect_refused("--comm 1234567890123456", "cannot match");
    assert_int_equal(parse("--comm 1,2,3,4,5,6,7,8"), AP_OPTIONS_RUN);
    assert_int_equal(config.comms.cnt, AP_COMM_FILTERS_MAX);
    expect_refused("--comm 1,2,3,4,5,6,7,8,9", "at most 8");
    ap_agent_config_done(&config);
    assert_true(ap_agent_config_parse(&config, 3, empty, &err) < 0);
}

static void formats_by_ending(void **state)
{
    static const enum ap_format wanted[] = {
        AP_FORMAT_SVG, AP_FORMAT_JSON, AP_FORMAT_COLLAPSED, AP_FORMAT_PPROF, AP_FORMAT_TEXT, AP_FORMAT_COLLAPSED,
    };
    size_t i;

    (void)state;
    assert_int_equal(parse("-o a.svg -o b.json -o c.collapsed -o d.pb.gz -o dir/e.TXT -o -"), AP_OPTIONS_RUN);
    assert_int_equal(config.outputs.cnt, 6);
    for (i = 0; i < 6; i++)
        assert_int_equal(config.output_formats[i], wanted[i]);
    assert_int_equal(parse("-o a,b.svg"), AP_OPTIONS_RUN); /* a comma belongs to the name */
    assert_int_equal(config.outputs.cnt, 1);
    assert_string_equal(config.outputs.items[0], "a,b.svg");
    expect_refused("-o a.svg -o profile", "--output");
    expect_refused("-o a.xml", ".svg");
}

static void formats_by_choice(void **state)
{
    static const struct {
        const char *name;
        enum ap_format format;
    } choices[] = {
        {"svg", AP_FORMAT_SVG},     {"json", AP_FORMAT_JSON}, {"collapsed", AP_FORMAT_COLLAPSED},
        {"pprof", AP_FORMAT_PPROF}, {"text", AP_FORMAT_TEXT},
    };
    char line[64];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        (void)snprintf(line, sizeof(line), "--format %s -o anything -o x.svg", choices[i].name);
        assert_int_equal(parse(line), AP_OPTIONS_RUN);
        assert_int_equal(config.output_formats[0], choices[i].format);
        assert_int_equal(config.output_formats[1], choices[i].format);
    }
    assert_int_equal(parse("--format auto -o x.json"), AP_OPTIONS_RUN);
    assert_int_equal(config.output_formats[0], AP_FORMAT_JSON);
    expect_refused("--format xml", "xml");
}

static void modes(void **state)
{
    static const struct {
        const char *line;
        uint32_t modes;
    } cases[] = {
        {"", AP_MODE(AP_KIND_CPU)},
        {"--mode cpu", AP_MODE(AP_KIND_CPU)},
        {"-m offcpu", AP_MODE(AP_KIND_OFFCPU)},
        {"--mode=lock", AP_MODE(AP_KIND_LOCK)},
        {"--mode syscall", AP_MODE(AP_KIND_SYSCALL)},
        {"--mode cpu,lock", AP_MODE(AP_KIND_CPU) | AP_MODE(AP_KIND_LOCK)},
        {"--mode lock,cpu", AP_MODE(AP_KIND_CPU) | AP_MODE(AP_KIND_LOCK)},
        {"--mode cpu,cpu", AP_MODE(AP_KIND_CPU)},
        {"--mode all",
         AP_MODE(AP_KIND_CPU) | AP_MODE(AP_KIND_OFFCPU) | AP_MODE(AP_KIND_LOCK) | AP_MODE(AP_KIND_SYSCALL)},
        {"--mode all,cpu",
         AP_MODE(AP_KIND_CPU) | AP_MODE(AP_KIND_OFFCPU) | AP_MODE(AP_KIND_LOCK) | AP_MODE(AP_KIND_SYSCALL)},
        {"--mode cpu --mode syscall", AP_MODE(AP_KIND_SYSCALL)}, /* the last one counts */
    };
    static const char *const refused[][2] = {
        {"--mode=", "\"\""},
        {"--mode cpu,", "\"\""},
        {"--mode ,", "\"\""},
        {"--mode cpu,,lock", "\"\""},
        {"--mode x", "\"x\""},
        {"--mode CPU", "\"CPU\""},
        {"--mode cpux", "\"cpux\""},
        {"--mode cp", "\"cp\""},
        {"--mode cpu,gpu", "\"gpu\""},
        {"--mode al", "\"al\""},
        {"--mode lock,alls", "\"alls\""},
    };
    char line[400];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (parse(cases[i].line) != AP_OPTIONS_RUN || config.modes != cases[i].modes)
            fail_msg("\"%s\": modes %x, \"%s\"", cases[i].line, config.modes, err.text);
    }
    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        expect_refused(refused[i][0], refused[i][1]);
        assert_non_null(strstr(err.text, "cpu, offcpu, lock, syscall"));
    }
    /* a long one is cut in the words */
    (void)snprintf(line, sizeof(line), "--mode %0300d", 0);
    expect_refused(line, "is no mode");
}

static void options_of_modes(void **state)
{
    (void)state;
    assert_int_equal(parse(""), AP_OPTIONS_RUN);
    assert_int_equal(config.min_block_ns, 1000000);
    assert_int_equal(config.min_latency_ns, 1000000);
    assert_int_equal(config.sample_every, 1);
    assert_false(config.waker);
    assert_false(config.stacks);
    assert_false(config.children);
    assert_int_equal(
        parse("--mode offcpu,syscall --min-block 50us --waker --sample-every 100 --stacks --min-latency 2s "
              "--pid 1 --children"),
        AP_OPTIONS_RUN);
    assert_int_equal(config.min_block_ns, 50000);
    assert_int_equal(config.min_latency_ns, 2000000000);
    assert_int_equal(config.sample_every, 100);
    assert_true(config.waker);
    assert_true(config.stacks);
    assert_true(config.children);
    assert_int_equal(parse("--min-block 0 --min-latency 0"), AP_OPTIONS_RUN); /* everything counts */
    assert_int_equal(config.min_block_ns, 0);
    assert_int_equal(config.min_latency_ns, 0);
    assert_int_equal(parse("--min-block 30d --min-latency 720h --sample-every 1000000"), AP_OPTIONS_RUN);
    assert_int_equal(config.min_block_ns, AP_DURATION_MAX_NS);
    assert_int_equal(config.min_latency_ns, AP_DURATION_MAX_NS);
    expect_refused("--min-block 721h", "--min-block");
    expect_refused("--min-latency 721h", "--min-latency");
    expect_refused("--min-block -1ms", "--min-block");
    expect_refused("--min-latency fast", "--min-latency");
    expect_refused("--sample-every 0", "--sample-every");
    expect_refused("--sample-every 1000001", "--sample-every");
}

static void children(void **state)
{
    (void)state;
    assert_int_equal(parse("--pid 1 --children"), AP_OPTIONS_RUN);
    assert_true(config.children);
    assert_int_equal(parse("--children -p 1,2"), AP_OPTIONS_RUN);
    expect_refused("--children", "--children needs --pid");
    expect_refused("--children --comm x --cgroup /y", "--children needs --pid");
}

/* System calls are counted: without --stacks there is nothing that a flamegraph could show. */
static void outputs_of_system_calls(void **state)
{
    static const char *const refused[] = {
        "-o a.svg",           "-o a.collapsed",        "-o a.pb.gz",          "-o -",
        "-o a.json -o a.SVG", "--format svg -o a.txt", "--format pprof -o -", "--format collapsed -o a",
    };
    char line[128];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        (void)snprintf(line, sizeof(line), "--mode syscall %s", refused[i]);
        expect_refused(line, "no stacks");
        assert_non_null(strstr(err.text, "add --stacks"));
        (void)snprintf(line, sizeof(line), "--mode syscall --stacks %s", refused[i]);
        assert_int_equal(parse(line), AP_OPTIONS_RUN);
        (void)snprintf(line, sizeof(line), "--mode cpu %s", refused[i]);
        assert_int_equal(parse(line), AP_OPTIONS_RUN);
    }
    expect_refused("--mode syscall -o dir/a.svg", "--output dir/a.svg");
    expect_refused("--mode syscall,syscall -o a.svg", "no stacks");
    assert_int_equal(parse("--mode syscall -o a.txt -o a.json"), AP_OPTIONS_RUN);
    assert_int_equal(parse("--mode syscall --format text -o -"), AP_OPTIONS_RUN);
    assert_int_equal(parse("--mode syscall --format json -o a.svg"), AP_OPTIONS_RUN);
    assert_int_equal(parse("--mode cpu,syscall -o a.svg"), AP_OPTIONS_RUN); /* the other mode has stacks */
}

static void several_modes_on_standard_output(void **state)
{
    (void)state;
    expect_refused("--mode cpu,lock -o -", "several modes");
    expect_refused("--mode all --format svg -o -", "--output -");
    expect_refused("--mode cpu,syscall --format pprof -o x -o -", "several modes");
    assert_int_equal(parse("--mode cpu,lock --format json -o -"), AP_OPTIONS_RUN);
    assert_int_equal(parse("--mode cpu,lock --format text -o -"), AP_OPTIONS_RUN);
    assert_int_equal(parse("--mode lock,lock -o -"), AP_OPTIONS_RUN);
    assert_int_equal(parse("--mode cpu,lock -o ./-.svg"), AP_OPTIONS_RUN);
}

static void bounds(void **state)
{
    (void)state;
    assert_int_equal(parse("-F 10000 -d 30d --top 10000"), AP_OPTIONS_RUN);
    assert_int_equal(config.duration_ns, AP_DURATION_MAX_NS);
    assert_int_equal(parse("-F 1 -d 1ms --top 1"), AP_OPTIONS_RUN);
    assert_int_equal(config.duration_ns, 1000000);
    expect_refused("-F 0", "--frequency");
    expect_refused("-F 10001", "--frequency");
    expect_refused("-d 0", "--duration");
    expect_refused("-d 721h", "--duration");
    expect_refused("-d -5s", "--duration");
    expect_refused("--ready-fd 2", "--ready-fd");
    expect_refused("--top 0", "--top");
    expect_refused("--mode disk", "--mode");
    expect_refused("--event page-faults", "--event");
}

static void strangers(void **state)
{
    (void)state;
    expect_refused("--frequenzy 9", "frequency"); /* the nearest name */
    assert_true(parse("somefile") < 0);
    assert_true(err.text[0]);
}

/* Help and version are printed to standard output and end the program well. */
static void exits(void **state)
{
    static const char *const lines[] = {"--help", "--version"};
    char text[64] = "";
    int saved, out[2];
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        FILE *file = tmpfile();
        int rc;

        assert_non_null(file);
        (void)fflush(stdout);
        saved = dup(STDOUT_FILENO);
        out[0] = dup2(fileno(file), STDOUT_FILENO);
        rc = parse(lines[i]);
        (void)fflush(stdout);
        out[1] = dup2(saved, STDOUT_FILENO);
        close(saved);
        assert_true(out[0] >= 0 && out[1] >= 0);
        assert_int_equal(rc, AP_OPTIONS_EXIT);
        rewind(file);
        assert_non_null(fgets(text, sizeof(text), file));
        (void)fclose(file);
        assert_non_null(strstr(text, "aperture-agent"));
    }
    assert_non_null(strstr(text, APERTURE_VERSION));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything),
        cmocka_unit_test(environment),
        cmocka_unit_test(pids),
        cmocka_unit_test(comms),
        cmocka_unit_test(formats_by_ending),
        cmocka_unit_test(formats_by_choice),
        cmocka_unit_test(modes),
        cmocka_unit_test(options_of_modes),
        cmocka_unit_test(children),
        cmocka_unit_test(outputs_of_system_calls),
        cmocka_unit_test(several_modes_on_standard_output),
        cmocka_unit_test(bounds),
        cmocka_unit_test(strangers),
        cmocka_unit_test(exits),
    };

    return cmocka_run_group_tests(tests, clean, clean);
}
