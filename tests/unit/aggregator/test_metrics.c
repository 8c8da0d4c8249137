/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static struct ap_buf buf;
static struct ap_metrics metrics;

static const char *page(void)
{
    struct ap_out *out;

    ap_buf_done(&buf);
    ap_buf_init(&buf, 1 << 20);
    out = ap_out_new_buf(&buf);
    ap_metrics_write(&metrics, out);
    ap_metrics_write_process(out);
    assert_int_equal(ap_out_flush(out), 0);
    ap_out_free(out);
    return buf.data;
}

static void expect(const char *line)
{
    char whole[256];

    strcpy(stpcpy(stpcpy(whole, "\n"), line), "\n");
    if (!strstr(page(), whole))
        fail_msg("no line \"%s\" in:\n%s", line, buf.data);
}

static void counters(void **state)
{
    (void)state;
    expect("aperture_push_total{status=\"ok\"} 0");
    ap_count(&metrics.pushes[AP_PUSH_OK], 2);
    ap_count(&metrics.pushes[AP_PUSH_BAD_BATCH], 1);
    ap_count(&metrics.losses[AP_LOSS_RING_FULL], 5);
    expect("aperture_push_total{status=\"ok\"} 2");
    expect("aperture_push_total{status=\"bad_batch\"} 1");
    expect("aperture_agent_losses_total{reason=\"ring_full\"} 5");
    expect("# TYPE aperture_push_total counter");
    expect("aperture_build_info{version=\"" APERTURE_VERSION "\"} 1");
    assert_non_null(strstr(page(), "\nprocess_resident_memory_bytes "));
}

static void durations(void **state)
{
    (void)state;
    ap_duration_add(&metrics.push_duration, 1000000);        /* into le 0.001: bounds belong to their bucket */
    ap_duration_add(&metrics.push_duration, 1000001);        /* 0.002 */
    ap_duration_add(&metrics.push_duration, 700000000);      /* 1 */
    ap_duration_add(&metrics.push_duration, 60000000000ULL); /* +Inf */
    expect("aperture_push_duration_seconds_bucket{le=\"0.001\"} 1");
    expect("aperture_push_duration_seconds_bucket{le=\"0.002\"} 2");
    expect("aperture_push_duration_seconds_bucket{le=\"0.5\"} 2");
    expect("aperture_push_duration_seconds_bucket{le=\"1\"} 3");
    expect("aperture_push_duration_seconds_bucket{le=\"30\"} 3");
    expect("aperture_push_duration_seconds_bucket{le=\"+Inf\"} 4");
    expect("aperture_push_duration_seconds_count 4");
    expect("aperture_push_duration_seconds_sum 60.702");
    expect("aperture_query_duration_seconds_bucket{method=\"Diff\",le=\"+Inf\"} 0");
}

/* HELP and TYPE stand before the samples of their family, each family once; all values are numbers. */
static void strict(void **state)
{
    char *text = strdup(page()), *line, *rest = text, family[128] = "", seen[8192] = "\n", mark[160], *end;
    bool typed = false;

    (void)state;
    while ((line = strsep(&rest, "\n"))) {
        if (!*line)
            continue;
        if (!strncmp(line, "# HELP ", 7)) {
            size_t len = strcspn(line + 7, " ");

            memcpy(family, line + 7, len);
            family[len] = '\0';
            strcpy(stpcpy(stpcpy(mark, "\n"), family), "\n");
            assert_null(strstr(seen, mark));
            assert_true(strlen(seen) + len + 2 < sizeof(seen));
            strcat(strcat(seen, family), "\n");
            typed = false;
        } else if (!strncmp(line, "# TYPE ", 7)) {
            assert_false(typed);
            assert_memory_equal(line + 7, family, strlen(family));
            typed = true;
        } else {
            assert_true(typed);
            assert_memory_equal(line, family, strlen(family));
            (void)strtod(strrchr(line, ' ') + 1, &end);
            assert_true(*end == '\0');
        }
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters),
        cmocka_unit_test(durations),
        cmocka_unit_test(strict),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    ap_buf_done(&buf);
    return rc;
}
