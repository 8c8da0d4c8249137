/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The agent's options: one table for command line, environment, --help and docs. */
#ifndef APERTURE_AGENT_CONFIG_H
#define APERTURE_AGENT_CONFIG_H

#include "core/error.h"
#include "core/options.h"
#include "format/format.h"
#include "model/profile.h"
#include "model/push.h"

#include <stdbool.h>
#include <stdint.h>

/* Highest --frequency. Above it the interrupts themselves become the load. */
#define AP_FREQUENCY_MAX 10000
/* Longest --duration: 30 days. */
#define AP_DURATION_MAX_NS (30ULL * 24 * 3600 * 1000000000ULL)
/* Value of --format that takes the format from the file's name. */
#define AP_FORMAT_CHOICE_AUTO 0

enum ap_sampling_event {
    AP_EVENT_CPU_CLOCK = 0, /* software timer: everywhere */
    AP_EVENT_CYCLES = 1,    /* hardware counter */
};

/* Bit of a kind in ap_agent_config.modes. */
#define AP_MODE(kind) (1u << (kind))

struct ap_agent_config {
    const char *mode; /* as written */
    uint32_t event;   /* enum ap_sampling_event */
    uint64_t frequency;
    uint64_t duration_ns; /* 0 = until interrupted, or until every --pid has ended */
    struct ap_option_list pids, comms, outputs;
    const char *cgroup;
    uint64_t min_block_ns, min_latency_ns, sample_every;
    bool waker, stacks, children;
    uint32_t format; /* AP_FORMAT_CHOICE_AUTO, or enum ap_format plus one */
    uint64_t top;    /* rows of the table on the terminal */
    bool quiet, self_test;
    uint64_t ready_fd;      /* 0 = none */
    const char *aggregator; /* NULL = results stay here */
    const char *tls_ca, *tls_cert, *tls_key, *auth_token, *agent_id, *spool_dir;
    struct ap_option_list labels;
    uint64_t spool_sz, push_interval_ns;
    uint32_t log_level, log_format;

    /* derived */
    uint32_t modes; /* AP_MODE() of each kind asked for */
    uint32_t pid_values[AP_OPTION_LIST_MAX];
    enum ap_format output_formats[AP_OPTION_LIST_MAX];
    char agent_id_text[AP_PUSH_AGENT_ID_SZ]; /* agent_id, or that of this machine */
};

extern const struct ap_options_spec ap_agent_options;

/* Parses and checks what the table cannot: process ids, output endings, combinations. AP_OPTIONS_RUN,
 * AP_OPTIONS_EXIT, or a negative errno with words (a usage error). */
int ap_agent_config_parse(struct ap_agent_config *config, int argc, char **argv, struct ap_error *err);

void ap_agent_config_done(struct ap_agent_config *config);

#endif
