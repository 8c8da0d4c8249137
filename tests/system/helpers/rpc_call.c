/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* rpc-call ENDPOINT METHOD TIMEOUT_MS [token TOKEN] [tls CA [CERT KEY]]: calls another program's server through
 * src/rpc, with the bytes of stdin. Writes the answer to stdout, or "STATUS: words" to stderr and exits with 1. */
#include "core/buf.h"
#include "rpc/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct ap_rpc_client_opts opts = {0};
    struct ap_error err = {0};
    struct ap_buf request, answer;
    size_t cnt;

    if (argc < 4)
        return 2;
    opts.endpoint = argv[1];
    for (int i = 4; i + 1 < argc; i++) {
        if (strcmp(argv[i], "token") == 0) {
            opts.token = argv[++i];
        } else if (strcmp(argv[i], "tls") == 0) {
            opts.tls.ca = argv[i + 1];
            if (i + 3 < argc)
                opts.tls.cert = argv[i + 2], opts.tls.key = argv[i + 3];
            break;
        }
    }
    ap_buf_init(&request, AP_RPC_MESSAGE_SZ * 2);
    ap_buf_init(&answer, AP_RPC_MESSAGE_SZ);
    do {
        char *room = (char *)ap_buf_reserve(&request, 65536);
        cnt = room ? fread(room, 1, 65536, stdin) : 0;
        request.len += cnt;
    } while (cnt > 0);

    struct ap_rpc_client *client = ap_rpc_client_new(&opts, &err);
    int status = AP_RPC_UNKNOWN;
    if (client)
        status = ap_rpc_client_call(client, argv[2], request.data, request.len, strtoull(argv[3], NULL, 10) * 1000000,
                                    &answer, &err);
    if (status == AP_RPC_OK)
        (void)fwrite(answer.data, 1, answer.len, stdout);
    else
        (void)fprintf(stderr, "%s: %s\n", ap_rpc_status_name(status), err.text);
    ap_rpc_client_free(client);
    ap_buf_done(&request);
    ap_buf_done(&answer);
    return status == AP_RPC_OK ? 0 : 1;
}
