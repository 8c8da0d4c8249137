/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/sql.h"

#include "core/clock.h"
#include "storage/engine.h"

#include <inttypes.h>
#include <string.h>

#define SLOTS_PER_SEC    (AP_NS_PER_SEC / AP_PUSH_SLOT_NS)
#define SLOTS_PER_MINUTE (60 * SLOTS_PER_SEC)
#define SLOTS_PER_HOUR   (3600 * SLOTS_PER_SEC)
/* Whole hours that are worth asking the roll-up, and the range from which the one of minutes is read although its ends
 * are not whole minutes: samples are ordered by hour, so that even a second at an end costs reading its hour. */
#define HOURS_MIN   4
#define MINUTES_MIN (6 * SLOTS_PER_HOUR)

void ap_sql_hex(struct ap_buf *sql, const char *text, size_t len)
{
    static const char digits[] = "0123456789ABCDEF";

    ap_buf_char(sql, '\'');
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)text[i];
        const char pair[2] = {digits[byte >> 4], digits[byte & 15]};

        ap_buf_append(sql, pair, sizeof(pair));
    }
    ap_buf_char(sql, '\'');
}

void ap_sql_text(struct ap_buf *sql, const char *text)
{
    ap_buf_str(sql, "unhex(");
    ap_sql_hex(sql, text, strlen(text));
    ap_buf_char(sql, ')');
}

void ap_sql_label(struct ap_buf *sql, const char *label)
{
    /* The item of index 0 is "", as is a label that is not there. */
    ap_buf_str(sql, "texts[indexOf(names, ");
    ap_sql_text(sql, label);
    ap_buf_str(sql, ")]");
}

static void put_set(struct ap_buf *sql, const struct ap_value_set *set)
{
    if (set->value_cnt == 0) {
        ap_buf_str(sql, set->negative ? " AND 1" : " AND 0");
        return;
    }
    ap_buf_str(sql, " AND hex(");
    ap_sql_label(sql, set->label);
    ap_buf_str(sql, set->negative ? ") NOT IN (" : ") IN (");
    for (size_t v = 0; v < set->value_cnt; v++) {
        ap_buf_str(sql, v > 0 ? ", " : "");
        ap_sql_hex(sql, set->values[v], strlen(set->values[v]));
    }
    ap_buf_char(sql, ')');
}

void ap_sql_sets(struct ap_buf *sql, const struct ap_storage_scope *scope, bool batch_only)
{
    for (size_t i = 0; i < scope->set_cnt; i++) {
        if (!batch_only || !ap_storage_label_of_process(scope->sets[i].label))
            put_set(sql, &scope->sets[i]);
    }
}

void ap_sql_series(struct ap_buf *sql, const char *database, const struct ap_storage_scope *scope, bool batch_only)
{
    size_t cnt = 0;

    for (size_t i = 0; i < scope->set_cnt; i++)
        cnt += !batch_only || !ap_storage_label_of_process(scope->sets[i].label);
    if (cnt == 0)
        return;
    ap_buf_printf(sql, " AND series IN (SELECT hash FROM %s.series WHERE 1", database);
    ap_sql_sets(sql, scope, batch_only);
    ap_buf_char(sql, ')');
}

struct ap_slots ap_slots_of(uint64_t from_ns, uint64_t to_ns)
{
    /* A slot is in the range when its beginning is. */
    return (struct ap_slots){
        .from = from_ns / AP_PUSH_SLOT_NS + (from_ns % AP_PUSH_SLOT_NS != 0),
        .to = to_ns / AP_PUSH_SLOT_NS + (to_ns % AP_PUSH_SLOT_NS != 0),
    };
}

/* A moment as the tables have it; past their end the last one. */
static uint32_t seconds(uint64_t s)
{
    return s < UINT32_MAX ? (uint32_t)s : UINT32_MAX;
}

void ap_sql_slots(struct ap_buf *sql, const struct ap_slots *slots)
{
    uint64_t from_s = slots->from / SLOTS_PER_SEC, from_slot = slots->from % SLOTS_PER_SEC;
    uint64_t to_s = slots->to / SLOTS_PER_SEC, to_slot = slots->to % SLOTS_PER_SEC;

    ap_buf_printf(sql, " AND t >= toDateTime(%" PRIu32 ")", seconds(from_s));
    if (from_slot != 0)
        ap_buf_printf(sql, " AND (t > toDateTime(%" PRIu32 ") OR slot >= %" PRIu64 ")", seconds(from_s), from_slot);
    if (to_slot == 0)
        ap_buf_printf(sql, " AND t < toDateTime(%" PRIu32 ")", seconds(to_s));
    else
        ap_buf_printf(sql, " AND t <= toDateTime(%" PRIu32 ") AND (t < toDateTime(%" PRIu32 ") OR slot < %" PRIu64 ")",
                      seconds(to_s), seconds(to_s), to_slot);
}

void ap_sql_starts(struct ap_buf *sql, const struct ap_storage_scope *scope)
{
    ap_buf_printf(sql,
                  " AND t >= toDateTime(%" PRIu32 ") AND t <= toDateTime(%" PRIu32 ") AND start_ns >= %" PRIu64
                  " AND start_ns < %" PRIu64,
                  seconds(scope->from_ns / AP_NS_PER_SEC), seconds(scope->to_ns / AP_NS_PER_SEC), scope->from_ns,
                  scope->to_ns);
}

static void add_piece(struct ap_sql_plan *plan, enum ap_store_table table, uint64_t from, uint64_t to)
{
    if (from < to)
        plan->pieces[plan->cnt++] = (struct ap_sql_piece){table, {from, to}};
}

/* [from, to): whole minutes from their roll-up, what is left from samples. */
static void add_minutes(struct ap_sql_plan *plan, uint64_t from, uint64_t to)
{
    uint64_t first = (from + SLOTS_PER_MINUTE - 1) / SLOTS_PER_MINUTE * SLOTS_PER_MINUTE;
    uint64_t last = to / SLOTS_PER_MINUTE * SLOTS_PER_MINUTE;

    if (first >= last) {
        add_piece(plan, AP_TABLE_SAMPLES, from, to);
        return;
    }
    add_piece(plan, AP_TABLE_SAMPLES, from, first);
    add_piece(plan, AP_TABLE_SAMPLES_1M, first, last);
    add_piece(plan, AP_TABLE_SAMPLES, last, to);
}

/* [from, to), which has no hours to be taken from a roll-up. */
static void add_range(struct ap_sql_plan *plan, uint64_t from, uint64_t to, bool minutes, uint64_t raw_since)
{
    bool whole = from % SLOTS_PER_MINUTE == 0 && to % SLOTS_PER_MINUTE == 0;

    if (minutes && (whole || from < raw_since || to - from >= MINUTES_MIN))
        add_minutes(plan, from, to);
    else
        add_piece(plan, AP_TABLE_SAMPLES, from, to);
}

/* Roll-ups have series without their pids. */
static bool needs_pid(const struct ap_storage_scope *scope, const char *label)
{
    bool needs = label != NULL && strcmp(label, "pid") == 0;

    for (size_t i = 0; i < scope->set_cnt; i++)
        needs = needs || strcmp(scope->sets[i].label, "pid") == 0;
    return needs;
}

struct ap_sql_plan ap_sql_plan_series(const struct ap_storage_scope *scope)
{
    struct ap_slots slots = ap_slots_of(scope->from_ns, scope->to_ns);
    uint64_t first = (slots.from + SLOTS_PER_HOUR - 1) / SLOTS_PER_HOUR * SLOTS_PER_HOUR;
    uint64_t last = slots.to / SLOTS_PER_HOUR * SLOTS_PER_HOUR;
    struct ap_sql_plan plan = {.source = "raw"};

    if (first >= last) {
        add_piece(&plan, AP_TABLE_SAMPLES, slots.from, slots.to);
        return plan;
    }
    add_piece(&plan, AP_TABLE_SAMPLES, slots.from, first);
    add_piece(&plan, AP_TABLE_SERIES_1H, first, last);
    add_piece(&plan, AP_TABLE_SAMPLES, last, slots.to);
    return plan;
}

struct ap_sql_plan ap_sql_plan(const struct ap_storage_scope *scope, const struct ap_sql_features *features,
                               const struct ap_sql_wish *wish)
{
    struct ap_slots slots = ap_slots_of(scope->from_ns, scope->to_ns);
    struct ap_sql_plan plan = {.source = "raw"};
    uint64_t first = (slots.from + SLOTS_PER_HOUR - 1) / SLOTS_PER_HOUR * SLOTS_PER_HOUR;
    uint64_t last = slots.to / SLOTS_PER_HOUR * SLOTS_PER_HOUR;
    bool rollups = features->full && !needs_pid(scope, wish->label);
    bool minutes = rollups && wish->step_ns % (60 * AP_NS_PER_SEC) == 0;
    bool hours = rollups && wish->step_ns % (3600 * AP_NS_PER_SEC) == 0 && last > first &&
                 last - first >= HOURS_MIN * SLOTS_PER_HOUR;

    if (hours) {
        add_range(&plan, slots.from, first, minutes, wish->raw_since);
        add_piece(&plan, AP_TABLE_SAMPLES_1H, first, last);
        add_range(&plan, last, slots.to, minutes, wish->raw_since);
    } else {
        add_range(&plan, slots.from, slots.to, minutes, wish->raw_since);
    }
    for (unsigned i = 0; i < plan.cnt; i++) {
        if (plan.pieces[i].table == AP_TABLE_SAMPLES_1H)
            plan.source = "1h";
        else if (plan.pieces[i].table == AP_TABLE_SAMPLES_1M && plan.source[0] == 'r')
            plan.source = "1m";
    }
    return plan;
}

void ap_sql_piece(struct ap_buf *sql, const char *database, const struct ap_storage_scope *scope,
                  const struct ap_sql_piece *piece)
{
    ap_buf_printf(sql, " FROM %s.%s WHERE ", database, ap_table_def(piece->table)->name);
    if (scope->kind != 0)
        ap_buf_printf(sql, "kind = %u", scope->kind);
    else
        ap_buf_char(sql, '1');
    ap_sql_slots(sql, &piece->slots);
    ap_sql_series(sql, database, scope, false);
}
