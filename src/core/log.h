/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Levelled log on stderr, as text or as one JSON object a line. Libraries below the programs log at debug only. */
#ifndef APERTURE_CORE_LOG_H
#define APERTURE_CORE_LOG_H

enum ap_log_level { AP_LOG_ERROR = 0, AP_LOG_WARN = 1, AP_LOG_INFO = 2, AP_LOG_DEBUG = 3 };
enum ap_log_format { AP_LOG_TEXT = 0, AP_LOG_JSON = 1 };

/* Longest message in bytes; longer ones are cut and end in "...". */
#define AP_LOG_MESSAGE_SZ 4096

/* Sets program name (not copied, must outlive the log), level and format; call once before threads start. */
void ap_log_setup(const char *program, enum ap_log_level level, enum ap_log_format format);

enum ap_log_level ap_log_get_level(void);

/* Writes one line when `level` is enabled; any thread. In text: "program: warning: message". In JSON: time (RFC 3339),
 * level, program, message, every control or invalid byte escaped. One write(2) per line. */
void ap_log(enum ap_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define ap_log_error(...) ap_log(AP_LOG_ERROR, __VA_ARGS__)
#define ap_log_warn(...)  ap_log(AP_LOG_WARN, __VA_ARGS__)
#define ap_log_info(...)  ap_log(AP_LOG_INFO, __VA_ARGS__)
#define ap_log_debug(...) ap_log(AP_LOG_DEBUG, __VA_ARGS__)

#endif
