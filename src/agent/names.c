/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/names.h"

#include "core/clock.h"
#include "core/map.h"
#include "core/strings.h"
#include "model/capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct key {
    uint32_t module, kind;
    uint64_t offset;
};

struct place {
    struct key key;
    struct place *next; /* in its queue */
    uint32_t first;     /* frame in the pool */
    uint32_t span;      /* when it was last looked up */
    uint8_t cnt, reason;
    bool answered;
};

struct frame {
    uint32_t function, file, module; /* strings */
    uint32_t line : 31, inlined : 1;
};

/* Places of one module and kind that wait for their turn. */
struct queue {
    struct queue *next; /* in the list of those that are not empty */
    struct place *first, *last;
    size_t pending; /* in the queue or under way */
    uint32_t module;
    uint8_t kind;
    uint8_t failures, reason; /* in a row, and of the last one */
};

struct ap_names {
    struct ap_modules *modules;
    struct ap_symbolizer *symbolizer;
    struct ap_map places; /* struct key -> place */
    struct ap_strings *strings;
    struct frame *frames;
    size_t frame_cnt, frame_cap;
    struct queue **queues; /* by module and kind; NULL until needed */
    size_t queue_cap;
    struct queue *first, *last; /* those that are not empty, in the order of the first place in each */
    uint64_t refused;
    uint32_t span;        /* counts up */
    uint32_t file_module; /* whose file the symbolizer has, UINT32_MAX = none's */
    /* the request under way */
    struct queue *asked;
    struct place *chunk[AP_SYMBOL_CHUNK];
    size_t chunk_cnt;
    struct ap_symbol_frame answer[AP_SYMBOL_INLINE_MAX];
};

struct ap_names *ap_names_new(struct ap_modules *modules, struct ap_symbolizer *symbolizer)
{
    struct ap_names *names = calloc(1, sizeof(*names));

    if (!names)
        return NULL;
    names->modules = modules;
    names->symbolizer = symbolizer;
    names->file_module = UINT32_MAX;
    ap_map_init(&names->places, AP_NAMES_MAX);
    names->strings = ap_strings_new(AP_NAMES_TEXT_SZ_MAX);
    return names->strings ? names : ap_names_free(names);
}

struct ap_names *ap_names_free(struct ap_names *names)
{
    size_t i;

    if (!names)
        return NULL;
    if (ap_symbolizer_busy(names->symbolizer)) /* it would answer to a table that is gone */
        ap_symbolizer_stop(names->symbolizer);
    ap_map_done_values(&names->places);
    ap_strings_free(names->strings);
    for (i = 0; i < names->queue_cap; i++)
        free(names->queues[i]);
    free(names->queues);
    free(names->frames);
    free(names);
    return NULL;
}

/* Queues -------------------------------------------------------------------------------------------------------- */

static const struct queue *find_queue(const struct ap_names *names, uint32_t module, unsigned kind)
{
    size_t index = (size_t)module * AP_NAME_KIND_CNT + kind;

    return index < names->queue_cap ? names->queues[index] : NULL;
}

/* The same, made when it is not there; NULL when out of memory. */
static struct queue *need_queue(struct ap_names *names, uint32_t module, unsigned kind)
{
    size_t index = (size_t)module * AP_NAME_KIND_CNT + kind, cap;
    struct queue **queues;

    if (index >= names->queue_cap) {
        cap = (index + 1) * 2;
        queues = realloc(names->queues, cap * sizeof(struct queue *));
        if (!queues)
            return NULL;
        memset(queues + names->queue_cap, 0, (cap - names->queue_cap) * sizeof(struct queue *));
        names->queues = queues;
        names->queue_cap = cap;
    }
    if (!names->queues[index]) {
        names->queues[index] = calloc(1, sizeof(struct queue));
        if (!names->queues[index])
            return NULL;
        names->queues[index]->module = module;
        names->queues[index]->kind = (uint8_t)kind;
    }
    return names->queues[index];
}

static void enqueue(struct ap_names *names, struct queue *queue, struct place *place)
{
    queue->pending++;
    if (queue->first) {
        queue->last->next = place;
        queue->last = place;
        return;
    }
    queue->first = queue->last = place;
    queue->next = NULL;
    if (names->first)
        names->last->next = queue;
    else
        names->first = queue;
    names->last = queue;
}

/* The next place of the first queue, which leaves the list with its last one. */
static struct place *dequeue(struct ap_names *names)
{
    struct queue *queue = names->first;
    struct place *place = queue->first;

    queue->first = place->next;
    place->next = NULL;
    if (!queue->first)
        names->first = queue->next;
    return place;
}

/* Nothing but a sound file, or the kernel, can be asked about. */
static bool can_ask(const struct ap_module *module)
{
    return !module->reason && (module->kind == AP_MODULE_KERNEL || (module->kind == AP_MODULE_FILE && module->fd >= 0));
}

void ap_names_want(struct ap_names *names, enum ap_name_kind kind, uint32_t module, uint64_t offset)
{
    const struct key key = {.module = module, .kind = kind, .offset = offset};
    struct place *place;
    struct queue *queue;

    if (!can_ask(ap_modules_get(names->modules, module)) || ap_map_get(&names->places, &key, sizeof(key)))
        return;
    queue = need_queue(names, module, kind);
    place = queue ? calloc(1, sizeof(*place)) : NULL;
    if (place) {
        place->key = key;
        place->span = names->span;
    }
    if (!place || ap_map_put(&names->places, &place->key, sizeof(place->key), place)) {
        free(place);
        names->refused++;
        return;
    }
    enqueue(names, queue, place);
}

/* Answers ------------------------------------------------------------------------------------------------------- */

/* Room for `cnt` more frames. */
static int reserve_frames(struct ap_names *names, size_t cnt)
{
    struct frame *frames;
    size_t cap;

    if (names->frame_cnt + cnt > AP_NAMES_FRAMES_MAX)
        return -ENOSPC;
    if (names->frame_cnt + cnt <= names->frame_cap)
        return 0;
    cap = names->frame_cap * 2 + 4096;
    frames = realloc(names->frames, cap * sizeof(*frames));
    if (!frames)
        return -ENOMEM;
    names->frames = frames;
    names->frame_cap = cap;
    return 0;
}

static int add_text(struct ap_names *names, const char *text, uint32_t *ret_id)
{
    return ap_strings_add(names->strings, text, strlen(text), ret_id);
}

/* Keeps the frames of a place, all or none. */
static int keep_frames(struct ap_names *names, struct place *place, const struct ap_symbol_frame *frames, size_t cnt)
{
    int rc = reserve_frames(names, cnt);
    struct frame frame;
    size_t i;

    for (i = 0; !rc && i < cnt; i++) {
        frame = (struct frame){.line = frames[i].line & 0x7fffffff, .inlined = frames[i].inlined};
        rc = add_text(names, frames[i].function, &frame.function);
        rc = rc ? rc : add_text(names, frames[i].file, &frame.file);
        rc = rc ? rc : add_text(names, frames[i].module, &frame.module);
        names->frames[names->frame_cnt + i] = frame;
    }
    if (rc)
        return rc;
    place->first = (uint32_t)names->frame_cnt;
    place->cnt = (uint8_t)cnt;
    names->frame_cnt += cnt;
    return 0;
}

static void answer_place(struct ap_names *names, struct place *place, uint8_t reason)
{
    struct queue *queue = names->queues[(size_t)place->key.module * AP_NAME_KIND_CNT + place->key.kind];

    place->reason = reason;
    place->answered = true;
    queue->pending--;
}

static void take_names(void *ctx, size_t index, const struct ap_symbol_frame *frames, size_t cnt, uint8_t reason)
{
    struct ap_names *names = ctx;
    struct place *place = names->chunk[index];

    if (cnt && keep_frames(names, place, frames, cnt)) {
        names->refused++;
        reason = AP_UNRESOLVED_BUDGET;
    }
    answer_place(names, place, reason);
}

/* Answers all that waits in the first queue. */
static void give_up(struct ap_names *names, uint8_t reason)
{
    const struct queue *queue = names->first;

    while (names->first == queue)
        answer_place(names, dequeue(names), reason);
}

/* Requests ------------------------------------------------------------------------------------------------------ */

static int by_offset(const void *a, const void *b)
{
    const struct place *x = *(struct place *const *)a, *y = *(struct place *const *)b;

    return x->key.offset < y->key.offset ? -1 : x->key.offset > y->key.offset;
}

/* Asks about the next places of the first queue. */
static void ask(struct ap_names *names)
{
    const struct ap_module *module = ap_modules_get(names->modules, names->first->module);
    uint64_t addrs[AP_SYMBOL_CHUNK];
    struct queue *queue = names->first;
    struct ap_symbol_request request = {
        .what = module->kind == AP_MODULE_KERNEL  ? AP_SYMBOL_KERNEL
                : queue->kind == AP_NAME_VARIABLE ? AP_SYMBOL_VARIABLE
                                                  : AP_SYMBOL_CODE,
        .same_file = names->file_module == queue->module,
        .fd = module->fd,
        .addrs = addrs,
        .fn = take_names,
        .ctx = names,
    };

    names->asked = queue;
    names->chunk_cnt = 0;
    while (names->first == queue && names->chunk_cnt < AP_SYMBOL_CHUNK)
        names->chunk[names->chunk_cnt++] = dequeue(names);
    qsort(names->chunk, names->chunk_cnt, sizeof(names->chunk[0]), by_offset);
    for (request.cnt = 0; request.cnt < names->chunk_cnt; request.cnt++)
        addrs[request.cnt] = names->chunk[request.cnt]->key.offset;
    if (request.what != AP_SYMBOL_KERNEL)
        names->file_module = queue->module;
    ap_symbolizer_submit(names->symbolizer, &request);
}

/* Asks on, about a module that may still be asked about; false when nothing is left to ask. */
static bool ask_next(struct ap_names *names)
{
    const struct queue *queue;

    while ((queue = names->first)) {
        if (queue->failures >= AP_NAMES_TRIES) {
            give_up(names, queue->reason);
        } else if (!can_ask(ap_modules_get(names->modules, queue->module))) {
            give_up(names, AP_UNRESOLVED_FILE_GONE);
        } else {
            ask(names);
            return true;
        }
    }
    return false;
}

/* What fails costs one module the names that are on the list. */
static void end_request(struct ap_names *names, bool failed)
{
    struct queue *queue = names->asked;

    if (!failed) {
        queue->failures = 0;
        return;
    }
    queue->failures++;
    queue->reason = names->chunk[0]->reason;
    if (names->first == queue)
        give_up(names, queue->reason);
}

void ap_names_pump(struct ap_names *names, uint64_t now_ns)
{
    int rc;

    do {
        rc = ap_symbolizer_take(names->symbolizer, now_ns);
        if (rc)
            end_request(names, rc < 0);
        else if (ap_symbolizer_busy(names->symbolizer))
            return;
    } while (ask_next(names));
    if (names->file_module != UINT32_MAX) {
        ap_symbolizer_forget(names->symbolizer); /* nothing keeps a file open that is not asked about */
        names->file_module = UINT32_MAX;
    }
}

void ap_names_settle(struct ap_names *names)
{
    ap_names_pump(names, ap_clock_monotonic_ns());
    while (ap_symbolizer_busy(names->symbolizer)) {
        ap_symbolizer_wait(names->symbolizer);
        ap_names_pump(names, ap_clock_monotonic_ns());
    }
}

size_t ap_names_pending(const struct ap_names *names, uint32_t module)
{
    const struct queue *queue;
    size_t cnt = 0;
    unsigned kind;

    for (kind = 0; kind < AP_NAME_KIND_CNT; kind++) {
        queue = find_queue(names, module, kind);
        cnt += queue ? queue->pending : 0;
    }
    return cnt;
}

/* What is known -------------------------------------------------------------------------------------------------- */

static void find_jit(struct ap_names *names, struct ap_module *module, uint64_t addr, struct ap_names_answer *answer)
{
    const char *name;

    ap_module_read_perfmap(module);
    name = ap_perfmap_find(module->perfmap, addr);
    if (!name && ap_module_refresh_perfmap(module))
        name = ap_perfmap_find(module->perfmap, addr);
    names->answer[0] = (struct ap_symbol_frame){.function = name, .file = "", .module = ""};
    answer->cnt = name != NULL;
    answer->reason = name ? AP_UNRESOLVED_NONE : AP_UNRESOLVED_JIT;
}

static void find_place(struct ap_names *names, const struct place *place, struct ap_names_answer *answer)
{
    const struct frame *frame;
    size_t i;

    for (i = 0; i < place->cnt; i++) {
        frame = &names->frames[place->first + i];
        names->answer[i] = (struct ap_symbol_frame){
            .function = ap_strings_get(names->strings, frame->function),
            .file = ap_strings_get(names->strings, frame->file),
            .module = ap_strings_get(names->strings, frame->module),
            .line = frame->line,
            .inlined = frame->inlined,
        };
    }
    answer->cnt = place->cnt;
    answer->reason = place->reason;
}

int ap_names_find(struct ap_names *names, enum ap_name_kind kind, uint32_t module, uint64_t offset,
                  struct ap_names_answer *ret_answer)
{
    const struct key key = {.module = module, .kind = kind, .offset = offset};
    struct ap_module *of = ap_modules_get(names->modules, module);
    struct ap_names_answer answer = {.frames = names->answer};
    struct place *place = ap_map_get(&names->places, &key, sizeof(key));

    if (!place && can_ask(of)) {
        ap_names_want(names, kind, module, offset);
        place = ap_map_get(&names->places, &key, sizeof(key));
    }
    if (place)
        place->span = names->span;
    if (place && !place->answered)
        return -EAGAIN;
    if (place)
        find_place(names, place, &answer);
    else if (of->reason)
        answer.reason = of->reason;
    else if (of->kind == AP_MODULE_JIT)
        find_jit(names, of, offset, &answer);
    else
        answer.reason = can_ask(of) ? AP_UNRESOLVED_BUDGET : AP_UNRESOLVED_FILE_GONE;
    *ret_answer = answer;
    return 0;
}

/* Moves the frames of a place to the tables of `to`; the place has no name when they do not fit. */
static void move_frames(struct ap_names *to, const struct ap_names *from, struct place *place)
{
    struct ap_symbol_frame frames[AP_SYMBOL_INLINE_MAX];
    const struct frame *frame;
    size_t cnt = place->cnt, i;

    for (i = 0; i < cnt; i++) {
        frame = &from->frames[place->first + i];
        frames[i] = (struct ap_symbol_frame){
            .function = ap_strings_get(from->strings, frame->function),
            .file = ap_strings_get(from->strings, frame->file),
            .module = ap_strings_get(from->strings, frame->module),
            .line = frame->line,
            .inlined = frame->inlined,
        };
    }
    place->cnt = 0;
    if (cnt && keep_frames(to, place, frames, cnt))
        place->reason = AP_UNRESOLVED_BUDGET;
}

static bool is_idle(const struct ap_names *names, const struct place *place)
{
    return place->answered && names->span - place->span >= AP_NAMES_IDLE_SPANS;
}

/* Puts what was looked up lately into tables made anew. Without memory all stays as it is. */
static void forget_idle(struct ap_names *names)
{
    struct ap_names fresh = {.strings = ap_strings_new(AP_NAMES_TEXT_SZ_MAX)};
    struct place *place;
    size_t pos = 0;
    int rc = fresh.strings ? 0 : -ENOMEM;

    ap_map_init(&fresh.places, AP_NAMES_MAX);
    while (!rc && (place = ap_map_next(&names->places, &pos)))
        if (!is_idle(names, place))
            rc = ap_map_put(&fresh.places, &place->key, sizeof(place->key), place);
    if (rc) {
        ap_map_done(&fresh.places);
        ap_strings_free(fresh.strings);
        return;
    }
    for (pos = 0; (place = ap_map_next(&names->places, &pos));) {
        if (is_idle(names, place))
            free(place);
        else
            move_frames(&fresh, names, place);
    }
    ap_map_done(&names->places);
    ap_strings_free(names->strings);
    free(names->frames);
    names->places = fresh.places;
    names->strings = fresh.strings;
    names->frames = fresh.frames;
    names->frame_cnt = fresh.frame_cnt;
    names->frame_cap = fresh.frame_cap;
}

void ap_names_next(struct ap_names *names)
{
    names->span++;
    if (names->places.cnt > AP_NAMES_KEEP && names->span % (AP_NAMES_IDLE_SPANS / 4) == 0)
        forget_idle(names);
}

size_t ap_names_cnt(const struct ap_names *names)
{
    return names->places.cnt;
}

uint64_t ap_names_refused(const struct ap_names *names)
{
    return names->refused;
}
