/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the commands that ask an aggregator share: where it is, what the question is about, how the answer is shown. */
#ifndef APERTURE_CLI_ASK_H
#define APERTURE_CLI_ASK_H

#include "core/error.h"
#include "core/options.h"
#include "model/answer.h"
#include "model/selector.h"
#include "wire/ask.h"

#include <stdbool.h>
#include <stdint.h>

#define AP_CLI_OK     0
#define AP_CLI_FAILED 1
#define AP_CLI_USAGE  2

/* Most rows that --limit accepts: what the server does too. */
#define AP_CLI_LIMIT_MAX 100000

enum ap_cli_format { AP_CLI_TABLE = 0, AP_CLI_JSON = 1, AP_CLI_CSV = 2 };

/* Filled by the options below. */
struct ap_cli_ask {
    const char *endpoint, *http_endpoint, *token, *tls_ca, *tls_cert, *tls_key;
    const char *event_type, *kind; /* the same, spelled differently */
    const char *since, *from, *to, *baseline_from, *baseline_to;
    struct ap_option_list matches, hosts, services, comms, pids, containers, labels;
    const char *function, *function_regex;
    uint64_t limit, timeout_ns;
    uint32_t format; /* enum ap_cli_format */
    struct ap_option_list baseline_matches;
    bool stored;        /* query */
    uint64_t watch_ns;  /* top; 0 = ask once */
    const char *output; /* export; NULL = by its format's ending, "-" = standard output */
    const char *as;     /* export: format */
    const char *start;  /* import: when it was recorded */
};

#define AP_CLI_FIELD(member) offsetof(struct ap_cli_ask, member)

/* Rows for option tables: where the aggregator is ... */
#define AP_CLI_OPTIONS_SERVER                                                                                          \
    {.type = AP_OPTION_GROUP, .help = "The aggregator"},                                                               \
        {.name = "endpoint",                                                                                           \
         .short_name = 'e',                                                                                            \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(endpoint),                                                                             \
         .def = "http://127.0.0.1:50051",                                                                              \
         .metavar = "URL",                                                                                             \
         .env = "APERTURE_ENDPOINT",                                                                                   \
         .help = "Its gRPC address, http://HOST:50051 or https://HOST:50051."},                                        \
        {.name = "http-endpoint",                                                                                      \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(http_endpoint),                                                                        \
         .metavar = "URL",                                                                                             \
         .env = "APERTURE_HTTP_ENDPOINT",                                                                              \
         .help = "Its HTTP address. Without it: the host of --endpoint, port 9090."},                                  \
        {.name = "auth-token",                                                                                         \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(token),                                                                                \
         .metavar = "TOKEN",                                                                                           \
         .env = "APERTURE_AUTH_TOKEN",                                                                                 \
         .help = "Token that it asks for. Rather set it in the environment: arguments are visible to others."},        \
        {.name = "tls-ca",                                                                                             \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(tls_ca),                                                                               \
         .metavar = "FILE",                                                                                            \
         .env = "APERTURE_TLS_CA",                                                                                     \
         .help = "Certificates (PEM) of who may sign its own; without it those that the system trusts."},              \
        {.name = "tls-cert",                                                                                           \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(tls_cert),                                                                             \
         .metavar = "FILE",                                                                                            \
         .env = "APERTURE_TLS_CERT",                                                                                   \
         .help = "Own certificate (PEM), when it asks for one."},                                                      \
        {.name = "tls-key",                                                                                            \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(tls_key),                                                                              \
         .metavar = "FILE",                                                                                            \
         .env = "APERTURE_TLS_KEY",                                                                                    \
         .help = "Its private key (PEM)."},                                                                            \
    {                                                                                                                  \
        .name = "timeout", .type = AP_OPTION_DURATION, .offset = AP_CLI_FIELD(timeout_ns), .def = "30s",               \
        .min = 1000000, .metavar = "TIME", .help = "How long to wait for the answer."                                  \
    }

/* ... which kind ... */
#define AP_CLI_OPTIONS_KIND(default_words)                                                                             \
    {.name = "event-type",                                                                                             \
     .type = AP_OPTION_STRING,                                                                                         \
     .offset = AP_CLI_FIELD(event_type),                                                                               \
     .metavar = "KIND",                                                                                                \
     .help = "What was recorded: cpu, offcpu, lock, syscall or gpu. Without it: " default_words "."},                  \
    {                                                                                                                  \
        .name = "kind", .short_name = 'k', .type = AP_OPTION_STRING, .offset = AP_CLI_FIELD(kind), .metavar = "KIND",  \
        .help = "The same as --event-type."                                                                            \
    }

/* ... when ... */
#define AP_CLI_OPTIONS_TIME(default_since)                                                                             \
    {.name = "since",                                                                                                  \
     .type = AP_OPTION_STRING,                                                                                         \
     .offset = AP_CLI_FIELD(since),                                                                                    \
     .metavar = "TIME",                                                                                                \
     .help = "From then until --to: a duration before now (15m, 2h ago), RFC 3339, or seconds since the epoch. "       \
             "Without it and --from: " default_since "."},                                                             \
        {.name = "from",                                                                                               \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(from),                                                                                 \
         .metavar = "TIME",                                                                                            \
         .help = "The same as --since."},                                                                              \
    {                                                                                                                  \
        .name = "to", .type = AP_OPTION_STRING, .offset = AP_CLI_FIELD(to), .metavar = "TIME",                         \
        .help = "Until then, written likewise. Without it: until now."                                                 \
    }

/* ... and whose. */
#define AP_CLI_OPTIONS_SCOPE                                                                                           \
    {.type = AP_OPTION_GROUP, .help = "Whose (all must match; several values of one: any of them)"},                   \
        {.name = "host",                                                                                               \
         .type = AP_OPTION_LIST,                                                                                       \
         .offset = AP_CLI_FIELD(hosts),                                                                                \
         .metavar = "NAME",                                                                                            \
         .help = "Only of this host."},                                                                                \
        {.name = "service",                                                                                            \
         .type = AP_OPTION_LIST,                                                                                       \
         .offset = AP_CLI_FIELD(services),                                                                             \
         .metavar = "NAME",                                                                                            \
         .help = "Only of this service."},                                                                             \
        {.name = "comm",                                                                                               \
         .type = AP_OPTION_LIST,                                                                                       \
         .offset = AP_CLI_FIELD(comms),                                                                                \
         .metavar = "NAME",                                                                                            \
         .help = "Only threads of this name."},                                                                        \
        {.name = "pid",                                                                                                \
         .type = AP_OPTION_LIST,                                                                                       \
         .offset = AP_CLI_FIELD(pids),                                                                                 \
         .metavar = "PID",                                                                                             \
         .help = "Only of this process."},                                                                             \
        {.name = "container",                                                                                          \
         .type = AP_OPTION_LIST,                                                                                       \
         .offset = AP_CLI_FIELD(containers),                                                                           \
         .metavar = "ID",                                                                                              \
         .help = "Only of this container."},                                                                           \
        {.name = "label",                                                                                              \
         .type = AP_OPTION_PATHS,                                                                                      \
         .offset = AP_CLI_FIELD(labels),                                                                               \
         .metavar = "NAME=VALUE",                                                                                      \
         .help = "Only with this label."},                                                                             \
        {.name = "match",                                                                                              \
         .type = AP_OPTION_PATHS,                                                                                      \
         .offset = AP_CLI_FIELD(matches),                                                                              \
         .metavar = "SELECTOR",                                                                                        \
         .help = "Conditions as Prometheus writes them: host=\"a\",comm!=\"x\",service=~\"web.*\"."},                  \
        {.name = "function",                                                                                           \
         .type = AP_OPTION_STRING,                                                                                     \
         .offset = AP_CLI_FIELD(function),                                                                             \
         .metavar = "TEXT",                                                                                            \
         .help = "Only stacks with a function whose name contains this."},                                             \
    {                                                                                                                  \
        .name = "function-regex", .type = AP_OPTION_STRING, .offset = AP_CLI_FIELD(function_regex),                    \
        .metavar = "REGEX", .help = "Only stacks with a function whose name matches this."                             \
    }

/* How much, and in which form. */
#define AP_CLI_OPTIONS_ANSWER(what)                                                                                    \
    {.type = AP_OPTION_GROUP, .help = "The answer"},                                                                   \
        {.name = "limit",                                                                                              \
         .short_name = 'n',                                                                                            \
         .type = AP_OPTION_U64,                                                                                        \
         .offset = AP_CLI_FIELD(limit),                                                                                \
         .def = "20",                                                                                                  \
         .min = 1,                                                                                                     \
         .max = AP_CLI_LIMIT_MAX,                                                                                      \
         .metavar = "N",                                                                                               \
         .help = "At most so many " what "."},                                                                         \
    {                                                                                                                  \
        .name = "format", .short_name = 'f', .type = AP_OPTION_CHOICE, .offset = AP_CLI_FIELD(format), .def = "table", \
        .choices = ap_cli_formats, .metavar = "FORMAT", .help = "table, json or csv."                                  \
    }

extern const char *const ap_cli_formats[];

/* Parses options alone. Negative (go on), or the exit status with which to end (`err` set for wrong usage). */
int ap_cli_options(const struct ap_options_spec *spec, struct ap_cli_ask *ask, int argc, char **argv, int *ret_first,
                   struct ap_error *err);

/* The selector of the options: kind (`default_kind`, an enum ap_event_kind or 0 for every one, without any), times
 * (`default_ns` before now without any, 0 = from the beginning), labels, function. 0, or negative errno with words that
 * name the option: wrong usage. */
int ap_cli_selector(const struct ap_cli_ask *ask, uint8_t default_kind, uint64_t now_ns, uint64_t default_ns,
                    struct ap_selector *ret_selector, struct ap_error *err);

/* Calls "/aperture.v1.Aggregator/METHOD"; shows what it waits for when that takes longer than a second. 0 with the
 * answer in `ret_data` (initialised by the caller), else negative with words. */
int ap_cli_call(const struct ap_cli_ask *ask, const char *method, const struct ap_buf *request, struct ap_buf *ret_data,
                struct ap_error *err);

#endif
