/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "api/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ap_api_jobs {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct ap_api_request **queue; /* ring of `max` */
    size_t max, first, cnt;
    bool end;
    void (*run)(struct ap_api_request *request);
    pthread_t *threads;
    unsigned thread_cnt;
};

static struct ap_api_request *take(struct ap_api_jobs *jobs)
{
    struct ap_api_request *request;

    if (jobs->cnt == 0)
        return NULL;
    request = jobs->queue[jobs->first];
    jobs->first = (jobs->first + 1) % jobs->max;
    jobs->cnt--;
    return request;
}

static void *work(void *arg)
{
    struct ap_api_jobs *jobs = arg;

    pthread_mutex_lock(&jobs->lock);
    while (!jobs->end) {
        struct ap_api_request *request = take(jobs);

        if (request == NULL) {
            pthread_cond_wait(&jobs->wake, &jobs->lock);
            continue;
        }
        pthread_mutex_unlock(&jobs->lock);
        jobs->run(request);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

struct ap_api_jobs *ap_api_jobs_new(unsigned threads, size_t max, void (*run)(struct ap_api_request *request),
                                    struct ap_error *err)
{
    struct ap_api_jobs *jobs = calloc(1, sizeof(*jobs));

    if (jobs == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->wake, NULL);
    jobs->max = max;
    jobs->run = run;
    jobs->queue = (struct ap_api_request **)calloc(max, sizeof(struct ap_api_request *));
    jobs->threads = calloc(threads, sizeof(*jobs->threads));
    if (jobs->queue == NULL || jobs->threads == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return ap_api_jobs_free(jobs);
    }
    for (; jobs->thread_cnt < threads; jobs->thread_cnt++) {
        int r = pthread_create(&jobs->threads[jobs->thread_cnt], NULL, work, jobs);

        if (r != 0) {
            ap_error_errno(err, -r, "cannot start a thread of the HTTP server");
            return ap_api_jobs_free(jobs);
        }
    }
    return jobs;
}

/* True when both come from one address, whatever the ports. */
static bool same_peer(const char *a, const char *b)
{
    const char *port = strrchr(a, ':');
    size_t len = port != NULL ? (size_t)(port - a) : strlen(a);

    return strncmp(a, b, len) == 0 && b[len] == a[len] && strrchr(b, ':') == b + len;
}

int ap_api_jobs_push(struct ap_api_jobs *jobs, struct ap_api_request *request)
{
    size_t peers = 0;
    int r = 0;

    pthread_mutex_lock(&jobs->lock);
    for (size_t i = 0; i < jobs->cnt; i++)
        peers += same_peer(request->peer, jobs->queue[(jobs->first + i) % jobs->max]->peer);
    if (jobs->end || jobs->cnt == jobs->max)
        r = -EAGAIN;
    else if (peers >= AP_API_JOBS_PEER_MAX)
        r = -EBUSY;
    if (r == 0) {
        jobs->queue[(jobs->first + jobs->cnt++) % jobs->max] = request;
        pthread_cond_signal(&jobs->wake);
    }
    pthread_mutex_unlock(&jobs->lock);
    return r;
}

struct ap_api_request *ap_api_jobs_take(struct ap_api_jobs *jobs)
{
    struct ap_api_request *request;

    pthread_mutex_lock(&jobs->lock);
    request = take(jobs);
    pthread_mutex_unlock(&jobs->lock);
    return request;
}

struct ap_api_jobs *ap_api_jobs_free(struct ap_api_jobs *jobs)
{
    if (jobs == NULL)
        return NULL;
    pthread_mutex_lock(&jobs->lock);
    jobs->end = true;
    pthread_cond_broadcast(&jobs->wake);
    pthread_mutex_unlock(&jobs->lock);
    for (unsigned i = 0; i < jobs->thread_cnt; i++)
        pthread_join(jobs->threads[i], NULL);
    pthread_cond_destroy(&jobs->wake);
    pthread_mutex_destroy(&jobs->lock);
    free((void *)jobs->queue);
    free(jobs->threads);
    free(jobs);
    return NULL;
}
