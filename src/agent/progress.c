/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/progress.h"

#include "core/parse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REDRAW_NS 200000000ULL
#define BAR_CELLS 20

void ap_progress_init(struct ap_progress *progress, bool quiet)
{
    const char *term = getenv("TERM");

    progress->on = !quiet && isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
    progress->shown_ns = 0;
}

void ap_progress_update(struct ap_progress *progress, uint64_t now_ns, uint64_t elapsed_ns, uint64_t duration_ns,
                        uint64_t samples, uint64_t lost)
{
    char elapsed[AP_FORMAT_SZ], total[AP_FORMAT_SZ], bar[BAR_CELLS + 1];
    size_t done;

    if (!progress->on || now_ns - progress->shown_ns < REDRAW_NS)
        return;
    progress->shown_ns = now_ns;
    ap_format_duration(elapsed, elapsed_ns);
    fprintf(stderr, "\r\033[K");
    if (duration_ns) {
        done = (size_t)(elapsed_ns >= duration_ns ? BAR_CELLS : elapsed_ns * BAR_CELLS / duration_ns);
        memset(bar, '.', BAR_CELLS);
        memset(bar, '#', done);
        bar[BAR_CELLS] = '\0';
        fprintf(stderr, "[%s] %s of %s", bar, elapsed, ap_format_duration(total, duration_ns));
    } else {
        fprintf(stderr, "recording for %s (Ctrl-C ends it)", elapsed);
    }
    fprintf(stderr, "  %" PRIu64 " samples", samples);
    if (lost)
        fprintf(stderr, ", %" PRIu64 " lost", lost);
    fflush(stderr);
}

void ap_progress_note(const struct ap_progress *progress, const char *what)
{
    if (!progress->on)
        return;
    fprintf(stderr, "\r\033[K%s ...", what);
    fflush(stderr);
}

void ap_progress_clear(const struct ap_progress *progress)
{
    if (!progress->on)
        return;
    fprintf(stderr, "\r\033[K");
    fflush(stderr);
}
