/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/metrics.h"

#include "core/clock.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const uint64_t bounds_ms[AP_DURATION_BUCKETS] = {1,   2,   5,    10,   25,   50,    100,
                                                        250, 500, 1000, 2500, 5000, 10000, 30000};

const char *ap_push_status_name(enum ap_push_status status)
{
    static const char *const names[AP_PUSH_STATUS_CNT] = {
        "ok",           "duplicate", "bad_request", "bad_batch", "too_large", "queue_full",
        "storage_away", "disk_full", "no_memory",   "stopping",  "cancelled", "storage_failed",
    };

    return (unsigned)status < AP_PUSH_STATUS_CNT ? names[status] : "?";
}

const char *ap_ask_method_name(enum ap_ask_method method)
{
    static const char *const names[AP_ASK_METHOD_CNT] = {"Query", "QueryStorage", "Aggregate", "Diff"};

    return (unsigned)method < AP_ASK_METHOD_CNT ? names[method] : "?";
}

void ap_duration_add(struct ap_duration *duration, uint64_t ns)
{
    unsigned i = 0;

    while (i < AP_DURATION_BUCKETS && ns > bounds_ms[i] * 1000000)
        i++;
    ap_count(&duration->counts[i], 1);
    ap_count(&duration->sum_ns, ns);
}

void ap_prom_family(struct ap_out *out, const char *name, const char *type, const char *help)
{
    ap_out_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void sample(struct ap_out *out, const char *name, const char *labels)
{
    ap_out_str(out, name);
    if (labels)
        ap_out_printf(out, "{%s}", labels);
    ap_out_char(out, ' ');
}

void ap_prom_u64(struct ap_out *out, const char *name, const char *labels, uint64_t value)
{
    sample(out, name, labels);
    ap_out_printf(out, "%" PRIu64 "\n", value);
}

void ap_prom_double(struct ap_out *out, const char *name, const char *labels, double value)
{
    sample(out, name, labels);
    ap_out_printf(out, "%.9g\n", value);
}

void ap_prom_counter(struct ap_out *out, const char *name, const char *help, uint64_t value)
{
    ap_prom_family(out, name, "counter", help);
    ap_prom_u64(out, name, NULL, value);
}

void ap_prom_gauge(struct ap_out *out, const char *name, const char *help, uint64_t value)
{
    ap_prom_family(out, name, "gauge", help);
    ap_prom_u64(out, name, NULL, value);
}

void ap_prom_duration(struct ap_out *out, const char *name, const char *labels, struct ap_duration *duration)
{
    const char *own = labels ? labels : "", *comma = labels ? "," : "";
    char full[128], text[160];
    uint64_t sum = 0;

    snprintf(full, sizeof(full), "%s_bucket", name);
    for (unsigned i = 0; i <= AP_DURATION_BUCKETS; i++) {
        sum += ap_counted(&duration->counts[i]);
        if (i < AP_DURATION_BUCKETS)
            snprintf(text, sizeof(text), "%s%sle=\"%g\"", own, comma, (double)bounds_ms[i] / 1e3);
        else
            snprintf(text, sizeof(text), "%s%sle=\"+Inf\"", own, comma);
        ap_prom_u64(out, full, text, sum);
    }
    snprintf(full, sizeof(full), "%s_sum", name);
    ap_prom_double(out, full, labels, (double)ap_counted(&duration->sum_ns) / 1e9);
    snprintf(full, sizeof(full), "%s_count", name);
    ap_prom_u64(out, full, labels, sum);
}

static void write_pushes(struct ap_metrics *metrics, struct ap_out *out)
{
    char label[64];
    unsigned i;

    ap_prom_family(out, "aperture_push_total", "counter", "Batches that agents sent, by what became of them.");
    for (i = 0; i < AP_PUSH_STATUS_CNT; i++) {
        snprintf(label, sizeof(label), "status=\"%s\"", ap_push_status_name(i));
        ap_prom_u64(out, "aperture_push_total", label, ap_counted(&metrics->pushes[i]));
    }
    ap_prom_counter(out, "aperture_push_events_total", "Events in the batches that were stored.",
                    ap_counted(&metrics->push_events));
    ap_prom_counter(out, "aperture_push_bytes_total", "Compressed bytes of the batches that were stored.",
                    ap_counted(&metrics->push_bytes));
    ap_prom_family(out, "aperture_push_duration_seconds", "histogram", "From a batch's arrival to its answer.");
    ap_prom_duration(out, "aperture_push_duration_seconds", NULL, &metrics->push_duration);
    ap_prom_family(out, "aperture_agent_losses_total", "counter",
                   "Events that agents reported as lost in the batches that were stored, by reason.");
    for (i = 0; i < AP_LOSS_REASON_CNT; i++) {
        snprintf(label, sizeof(label), "reason=\"%s\"", ap_loss_name(i));
        ap_prom_u64(out, "aperture_agent_losses_total", label, ap_counted(&metrics->losses[i]));
    }
}

static void write_flushes(struct ap_metrics *metrics, struct ap_out *out)
{
    ap_prom_family(out, "aperture_storage_flush_total", "counter", "Commits to storage, each of a group of batches.");
    ap_prom_u64(out, "aperture_storage_flush_total", "status=\"ok\"", ap_counted(&metrics->flushes_ok));
    ap_prom_u64(out, "aperture_storage_flush_total", "status=\"failed\"", ap_counted(&metrics->flushes_failed));
    ap_prom_counter(out, "aperture_storage_flush_rows_total", "Sample rows in the commits that succeeded.",
                    ap_counted(&metrics->flush_rows));
    ap_prom_family(out, "aperture_storage_flush_duration_seconds", "histogram", "Duration of commits.");
    ap_prom_duration(out, "aperture_storage_flush_duration_seconds", NULL, &metrics->flush_duration);
}

static void write_asks(struct ap_metrics *metrics, struct ap_out *out)
{
    char label[64];
    unsigned i;

    ap_prom_family(out, "aperture_query_duration_seconds", "histogram", "Duration of gRPC questions, by method.");
    for (i = 0; i < AP_ASK_METHOD_CNT; i++) {
        snprintf(label, sizeof(label), "method=\"%s\"", ap_ask_method_name(i));
        ap_prom_duration(out, "aperture_query_duration_seconds", label, &metrics->asks[i]);
    }
    ap_prom_family(out, "aperture_query_errors_total", "counter", "gRPC questions that were answered by an error.");
    for (i = 0; i < AP_ASK_METHOD_CNT; i++) {
        snprintf(label, sizeof(label), "method=\"%s\"", ap_ask_method_name(i));
        ap_prom_u64(out, "aperture_query_errors_total", label, ap_counted(&metrics->ask_errors[i]));
    }
    ap_prom_counter(out, "aperture_query_refused_total", "gRPC questions refused because too many were waiting.",
                    ap_counted(&metrics->ask_refused));
}

void ap_metrics_write(struct ap_metrics *metrics, struct ap_out *out)
{
    write_pushes(metrics, out);
    write_flushes(metrics, out);
    write_asks(metrics, out);
    ap_prom_family(out, "aperture_import_total", "counter", "Profiles imported through the REST API.");
    ap_prom_u64(out, "aperture_import_total", "status=\"ok\"", ap_counted(&metrics->imports_ok));
    ap_prom_u64(out, "aperture_import_total", "status=\"failed\"", ap_counted(&metrics->imports_failed));
    ap_prom_family(out, "aperture_token_reloads_total", "counter", "Times that the token file was read again.");
    ap_prom_u64(out, "aperture_token_reloads_total", "status=\"ok\"", ap_counted(&metrics->reloads_ok));
    ap_prom_u64(out, "aperture_token_reloads_total", "status=\"failed\"", ap_counted(&metrics->reloads_failed));
}

/* ---- This process ---- */

static unsigned open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned cnt = 0;

    if (!dir)
        return 0;
    /* cppcheck-suppress readdirCalled; glibc: safe on a stream of our own */
    while (readdir(dir))
        cnt++;
    closedir(dir);
    return cnt > 3 ? cnt - 3 : 0; /* ".", ".." and the folder itself */
}

/* Field 22 of proc(5)'s stat: clock ticks after the boot. Seconds since the epoch, 0 when it cannot be read. */
static double start_time(void)
{
    unsigned long long ticks = 0;
    struct timespec boot;
    char text[1024];
    size_t len;
    FILE *file = fopen("/proc/self/stat", "re");
    const char *end;

    if (!file)
        return 0;
    len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    end = strrchr(text, ')');
    if (!end || sscanf(end + 1, " %*c%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s %llu", &ticks) != 1 ||
        clock_gettime(CLOCK_BOOTTIME, &boot))
        return 0;
    return (double)ap_clock_realtime_ns() / 1e9 - ((double)boot.tv_sec + (double)boot.tv_nsec / 1e9) +
           (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

void ap_metrics_write_process(struct ap_out *out)
{
    unsigned long long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    struct rlimit limit = {0};
    long page = sysconf(_SC_PAGESIZE);

    if (file) {
        if (fscanf(file, "%llu %llu", &size, &resident) != 2)
            size = resident = 0;
        (void)fclose(file);
    }
    getrlimit(RLIMIT_NOFILE, &limit);

    ap_prom_family(out, "process_cpu_seconds_total", "counter", "CPU time of this process.");
    ap_prom_double(out, "process_cpu_seconds_total", NULL, (double)ap_clock_cpu_ns() / 1e9);
    ap_prom_gauge(out, "process_resident_memory_bytes", "Resident memory of this process.",
                  (uint64_t)resident * (uint64_t)page);
    ap_prom_gauge(out, "process_virtual_memory_bytes", "Address space of this process.",
                  (uint64_t)size * (uint64_t)page);
    ap_prom_gauge(out, "process_open_fds", "Open file descriptors.", open_descriptors());
    ap_prom_gauge(out, "process_max_fds", "Most file descriptors that may be open.", limit.rlim_cur);
    ap_prom_family(out, "process_start_time_seconds", "gauge", "When this process started, since the epoch.");
    ap_prom_double(out, "process_start_time_seconds", NULL, start_time());
    ap_prom_family(out, "aperture_build_info", "gauge", "Always 1; the version is in the label.");
    ap_prom_u64(out, "aperture_build_info", "version=\"" APERTURE_VERSION "\"", 1);
}
