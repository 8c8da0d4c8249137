/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Static files: the dashboard. */
#include "api/internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* The dashboard's own code and nothing else; styles in elements are what its libraries set. */
#define CSP                                                                                                            \
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "            \
    "font-src 'self'; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "             \
    "form-action 'self'; frame-ancestors 'none'"

static const struct {
    const char *ending, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".map", "application/json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".webp", "image/webp"},
    {".woff2", "font/woff2"},
    {".wasm", "application/wasm"},
    {".txt", "text/plain; charset=utf-8"},
    {".webmanifest", "application/manifest+json"},
};

static const char *type_of(const char *path)
{
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcasecmp(dot, types[i].ending) == 0)
            return types[i].type;
    return "application/octet-stream";
}

/* False for what no link of the dashboard is: parts that begin with a dot, as ".." does. */
static bool is_plain(const char *path)
{
    if (strchr(path, '\\') != NULL || strlen(path) > 1024)
        return false;
    for (; path != NULL; path = strchr(path + 1, '/'))
        if (path[0] == '/' && path[1] == '.')
            return false;
    return true;
}

/* "index-B1cD9xQ2.js": the build puts a hash of the content into the name, so that it never changes. */
static bool is_hashed(const char *path)
{
    const char *base = strrchr(path, '/') + 1;
    const char *dot = strchr(base, '.');
    size_t len = 0;

    if (strncmp(path, "/assets/", 8) != 0 || dot == NULL)
        return false;
    while (dot - len > base && (isalnum((unsigned char)dot[-1 - (ptrdiff_t)len]) || dot[-1 - (ptrdiff_t)len] == '_'))
        len++;
    return len >= 8 && dot - len > base && dot[-1 - (ptrdiff_t)len] == '-';
}

/* A regular file below ui_dir, wherever links lead. Descriptor or negative errno. */
static int open_file(const struct ap_api *api, const char *path, const char *suffix, struct stat *ret_stat)
{
    char name[PATH_MAX], real[PATH_MAX];
    size_t len = strlen(api->ui_dir);
    int fd;

    if (snprintf(name, sizeof(name), "%s%s%s", api->ui_dir, path, suffix) >= (int)sizeof(name))
        return -ENAMETOOLONG;
    if (realpath(name, real) == NULL)
        return -errno;
    if (strncmp(real, api->ui_dir, len) != 0 || (real[len] != '/' && strcmp(api->ui_dir, "/") != 0))
        return -ENOENT;
    fd = open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, ret_stat) == 0 && S_ISREG(ret_stat->st_mode))
        return fd;
    close(fd);
    return -ENOENT;
}

/* The file itself, or what was compressed beside it. */
static int open_best(const struct ap_api_request *request, const char *path, struct stat *ret_stat,
                     const char **ret_encoding)
{
    static const struct {
        const char *name, *suffix;
    } encodings[] = {{"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}};

    for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
        int fd = ap_api_accepts_encoding(request->accept_encoding, encodings[i].name)
                     ? open_file(request->api, path, encodings[i].suffix, ret_stat)
                     : -ENOENT;

        if (fd >= 0) {
            *ret_encoding = encodings[i].name;
            return fd;
        }
    }
    *ret_encoding = NULL;
    return open_file(request->api, path, "", ret_stat);
}

static void make_response(struct ap_api_request *request, const char *path, int fd, const struct stat *st,
                          const char *encoding)
{
    const char *known = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "If-None-Match");
    struct MHD_Response *response;
    char etag[80];

    (void)snprintf(etag, sizeof(etag), "\"%" PRIx64 "-%" PRIx64 "-%s\"",
                   (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec, (uint64_t)st->st_size,
                   encoding != NULL ? encoding : "");
    if (known != NULL && strcmp(known, etag) == 0) {
        close(fd);
        request->status = MHD_HTTP_NOT_MODIFIED;
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    } else {
        request->status = MHD_HTTP_OK;
        request->len = (size_t)st->st_size;
        response = MHD_create_response_from_fd64((uint64_t)st->st_size, fd); /* closes it */
        if (response == NULL)
            close(fd);
    }
    request->ready = response;
    if (response == NULL) {
        ap_api_request_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out_of_memory", "out of memory");
        return;
    }
    (void)MHD_add_response_header(response, "Content-Type", type_of(path));
    (void)MHD_add_response_header(response, "ETag", etag);
    (void)MHD_add_response_header(response, "Vary", "Accept-Encoding");
    (void)MHD_add_response_header(response, "Content-Security-Policy", CSP);
    (void)MHD_add_response_header(response, "Cache-Control",
                                  is_hashed(path) ? "public, max-age=31536000, immutable" : "no-cache");
    if (encoding != NULL)
        (void)MHD_add_response_header(response, "Content-Encoding", encoding);
}

void ap_api_files_answer(struct ap_api_request *request)
{
    const char *path = strcmp(request->path, "/") == 0 ? "/index.html" : request->path;
    const char *encoding = NULL;
    struct stat st;
    int fd = -ENOENT;

    if (request->api->ui_dir != NULL && is_plain(path))
        fd = open_best(request, path, &st, &encoding);
    /* Addresses inside of the dashboard are its own business; files that are missing are missing. */
    if (fd < 0 && request->api->ui_dir != NULL && is_plain(path) && strncmp(path, "/assets/", 8) != 0) {
        path = "/index.html";
        fd = open_best(request, path, &st, &encoding);
    }
    if (fd >= 0)
        make_response(request, path, fd, &st, encoding);
    else if (request->api->ui_dir == NULL)
        ap_api_request_fail(request, MHD_HTTP_NOT_FOUND, "not_found",
                            "there is no dashboard here; the API is below /api/ (docs/openapi.yaml)");
    else
        ap_api_request_fail(request, MHD_HTTP_NOT_FOUND, "not_found", "there is no such page");
}
