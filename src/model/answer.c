/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/answer.h"

#include <stdlib.h>

void ap_batches_answer_done(struct ap_batches_answer *answer)
{
    for (size_t i = 0; i < answer->row_cnt; i++) {
        free(answer->rows[i].agent_id);
        ap_labels_free(answer->rows[i].labels, answer->rows[i].label_cnt);
    }
    free(answer->rows);
    *answer = (struct ap_batches_answer){0};
}

void ap_agents_answer_done(struct ap_agents_answer *answer)
{
    for (size_t i = 0; i < answer->row_cnt; i++) {
        free(answer->rows[i].agent_id);
        ap_labels_free(answer->rows[i].labels, answer->rows[i].label_cnt);
    }
    free(answer->rows);
    *answer = (struct ap_agents_answer){0};
}

void ap_functions_answer_done(struct ap_functions_answer *answer)
{
    for (size_t i = 0; i < answer->row_cnt; i++) {
        free(answer->rows[i].function);
        free(answer->rows[i].module);
    }
    free(answer->rows);
    *answer = (struct ap_functions_answer){0};
}

static void free_texts(char **texts, size_t cnt)
{
    for (size_t i = 0; texts != NULL && i < cnt; i++)
        free(texts[i]);
    free((void *)texts);
}

void ap_stacks_answer_done(struct ap_stacks_answer *answer)
{
    for (size_t i = 0; i < answer->row_cnt; i++)
        free_texts(answer->rows[i].functions, answer->rows[i].function_cnt);
    free(answer->rows);
    *answer = (struct ap_stacks_answer){0};
}

void ap_diff_answer_done(struct ap_diff_answer *answer)
{
    for (size_t i = 0; i < answer->row_cnt; i++) {
        free(answer->rows[i].function);
        free(answer->rows[i].module);
    }
    free(answer->rows);
    *answer = (struct ap_diff_answer){0};
}

void ap_tree_answer_done(struct ap_tree_answer *answer)
{
    free_texts(answer->strings, answer->string_cnt);
    free(answer->nodes);
    *answer = (struct ap_tree_answer){0};
}

void ap_aggregate_answer_done(struct ap_aggregate_answer *answer)
{
    ap_functions_answer_done(&answer->functions);
    ap_tree_answer_done(&answer->tree);
    for (size_t i = 0; i < answer->lock_cnt; i++) {
        struct ap_lock_answer_row *row = &answer->locks[i];

        free(row->host);
        free(row->comm);
        free(row->symbol);
        free(row->type);
        free(row->top_waiter);
        free(row->top_waker);
    }
    free(answer->locks);
    for (size_t i = 0; i < answer->syscall_cnt; i++) {
        free(answer->syscalls[i].host);
        free(answer->syscalls[i].comm);
        free(answer->syscalls[i].name);
    }
    free(answer->syscalls);
    *answer = (struct ap_aggregate_answer){0};
}
