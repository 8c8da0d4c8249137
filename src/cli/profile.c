/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/profile.h"

#include "core/options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_FAILED     1
#define EXIT_USAGE      2
#define EXIT_CANNOT_RUN 127 /* as shells do */
#define AGENT_NAME      "aperture-agent"
/* Where the agent finds the descriptor to report on. */
#define READY_FD 3
/* Agent arguments: the fixed ones, one for each output, and the end mark. */
#define AGENT_ARGS_MAX (24 + AP_OPTION_LIST_MAX)

struct profile_config {
    const char *mode, *event, *frequency, *duration, *format, *top;
    struct ap_option_list outputs;
    bool waker, stacks, quiet;
};

#define FIELD(member) offsetof(struct profile_config, member)

static const struct ap_option options[] = {
    {.name = "mode",
     .short_name = 'm',
     .type = AP_OPTION_STRING,
     .offset = FIELD(mode),
     .def = "cpu",
     .metavar = "LIST",
     .help = "What to record: cpu, offcpu, lock, syscall, several with commas between, or all."},
    {.name = "output",
     .short_name = 'o',
     .type = AP_OPTION_PATHS,
     .offset = FIELD(outputs),
     .metavar = "FILE",
     .help = "Write the profile here: .svg .json .collapsed .pb.gz .txt. Without it a table is printed "
             "on standard error when the command has ended."},
    {.name = "format",
     .type = AP_OPTION_STRING,
     .offset = FIELD(format),
     .metavar = "FORMAT",
     .help = "Format of every output, whatever its name."},
    {.name = "frequency",
     .short_name = 'F',
     .type = AP_OPTION_STRING,
     .offset = FIELD(frequency),
     .metavar = "HZ",
     .help = "Samples per second and CPU."},
    {.name = "event",
     .type = AP_OPTION_STRING,
     .offset = FIELD(event),
     .metavar = "EVENT",
     .help = "What triggers a sample: cpu-clock or cycles."},
    {.name = "waker",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(waker),
     .help = "offcpu: add the stack of whoever ended the wait."},
    {.name = "stacks",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(stacks),
     .help = "syscall: record the stacks of slow calls."},
    {.name = "duration",
     .short_name = 'd',
     .type = AP_OPTION_STRING,
     .offset = FIELD(duration),
     .metavar = "TIME",
     .help = "Stop profiling after this time; the command goes on. Without it: until the command ends."},
    {.name = "top", .type = AP_OPTION_STRING, .offset = FIELD(top), .metavar = "N", .help = "Functions in the table."},
    {.name = "quiet",
     .short_name = 'q',
     .type = AP_OPTION_BOOL,
     .offset = FIELD(quiet),
     .help = "No progress line, and no table when --output is given."},
    {0},
};

static const struct ap_options_spec spec = {
    .program = "aperture-cli profile",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...] -- COMMAND [ARGS...]",
    .summary = "Starts a command and profiles it with everything it starts. Its exit status is passed on.",
    .epilog = "Examples:\n  aperture-cli profile --frequency 999 --output build.svg -- make -j8\n"
              "  aperture-cli profile --mode offcpu,lock -- ./server --self-test",
    .options = options,
    .allow_args = true,
};

/* The agent beside this program, else the one on the PATH. `ret_path` has PATH_MAX bytes. */
static void find_agent(char *ret_path)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    self[len > 0 ? len : 0] = '\0';
    slash = strrchr(self, '/');
    if (slash) {
        slash[1] = '\0';
        if (snprintf(ret_path, PATH_MAX, "%s%s", self, AGENT_NAME) < PATH_MAX && !access(ret_path, X_OK))
            return;
    }
    snprintf(ret_path, PATH_MAX, "%s", AGENT_NAME);
}

/* In the child: waits for the word to go, then becomes the command. */
static void run_command(int go_fd, int fail_fd, char **command)
{
    int failure;
    char go;

    if (read(go_fd, &go, 1) != 1)
        _exit(EXIT_CANNOT_RUN); /* the profile could not be started */
    execvp(command[0], command);
    failure = errno;
    if (write(fail_fd, &failure, sizeof(failure)) != sizeof(failure))
        _exit(EXIT_CANNOT_RUN);
    _exit(EXIT_CANNOT_RUN);
}

struct args {
    char *items[AGENT_ARGS_MAX];
    size_t cnt;
};

/* "--NAME=VALUE", unless there is no value. The text lives until exec. */
static void add_arg(struct args *args, const char *name, const char *value)
{
    char *text;

    if (!value || args->cnt == AGENT_ARGS_MAX - 1 || asprintf(&text, "--%s=%s", name, value) < 0)
        return;
    args->items[args->cnt++] = text;
}

static void add_flag(struct args *args, const char *name, bool on)
{
    char *text;

    if (on && args->cnt < AGENT_ARGS_MAX - 1 && asprintf(&text, "--%s", name) >= 0)
        args->items[args->cnt++] = text;
}

static void run_agent(const struct profile_config *config, pid_t pid, int ready_fd)
{
    char path[PATH_MAX], number[16];
    struct args args = {.items = {path}, .cnt = 1};
    size_t i;

    find_agent(path);
    add_arg(&args, "mode", config->mode);
    snprintf(number, sizeof(number), "%d", READY_FD);
    add_arg(&args, "ready-fd", number);
    snprintf(number, sizeof(number), "%d", (int)pid);
    add_arg(&args, "pid", number);
    add_flag(&args, "children", true);
    add_flag(&args, "waker", config->waker);
    add_flag(&args, "stacks", config->stacks);
    add_flag(&args, "quiet", config->quiet);
    add_arg(&args, "event", config->event);
    add_arg(&args, "frequency", config->frequency);
    add_arg(&args, "duration", config->duration);
    add_arg(&args, "format", config->format);
    add_arg(&args, "top", config->top);
    for (i = 0; i < config->outputs.cnt; i++)
        add_arg(&args, "output", config->outputs.items[i]);
    args.items[args.cnt] = NULL;
    if (ready_fd == READY_FD)
        fcntl(ready_fd, F_SETFD, 0);
    else
        dup2(ready_fd, READY_FD);
    signal(SIGINT, SIG_DFL);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* standard output belongs to the command */
    execvp(path, args.items);
    fprintf(stderr, "aperture-cli: cannot start %s: %s\n", path, strerror(errno));
    _exit(EXIT_FAILED);
}

static int exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int wait_for(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return exit_status(status);
}

/* Waits until the agent records. 0, or the agent's exit status when it ended instead. */
static int wait_ready(int ready_fd, pid_t agent)
{
    ssize_t n;
    char ready;

    do {
        n = read(ready_fd, &ready, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1)
        return 0;
    n = wait_for(agent);
    return n ? (int)n : EXIT_FAILED;
}

/* Lets the command go and brings both home. */
static int supervise(pid_t command, pid_t agent, int go_fd, int fail_fd, char **argv, struct ap_error *err)
{
    int failure = 0, status, agent_status;
    ssize_t n;

    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the command and the agent, both decide for themselves */
    if (write(go_fd, "1", 1) != 1)
        ap_error_set(err, -EPIPE, "the command was gone before it began");
    n = read(fail_fd, &failure, sizeof(failure));
    status = wait_for(command);
    agent_status = wait_for(agent);
    if (n == (ssize_t)sizeof(failure)) {
        ap_error_errno(err, -failure, "cannot start \"%s\"", argv[0]);
        return EXIT_CANNOT_RUN;
    }
    if (!status && agent_status) {
        ap_error_set(err, -EIO, "the command ended well, but its profile could not be made");
        return EXIT_FAILED;
    }
    return status;
}

static int run(const struct profile_config *config, char **command, struct ap_error *err)
{
    int go[2], fail[2], ready[2], rc;
    pid_t child, agent;

    if (pipe2(go, O_CLOEXEC) || pipe2(fail, O_CLOEXEC) || pipe2(ready, O_CLOEXEC)) {
        ap_error_errno(err, -errno, "cannot create a pipe");
        return EXIT_FAILED;
    }
    child = fork();
    if (child == 0) {
        close(go[1]);
        close(ready[1]); /* else the agent's end would not show */
        run_command(go[0], fail[1], command);
    }
    agent = child > 0 ? fork() : -1;
    if (agent == 0) {
        close(go[1]);
        run_agent(config, child, ready[1]);
    }
    close(go[0]);
    close(fail[1]);
    close(ready[1]);
    if (agent < 0) {
        rc = -errno;
        close(go[1]);
        if (child > 0)
            wait_for(child);
        ap_error_errno(err, rc, "cannot start a process");
        return EXIT_FAILED;
    }
    rc = wait_ready(ready[0], agent);
    if (rc) {
        close(go[1]); /* the command has not run: it ends by itself */
        wait_for(child);
        ap_error_set(err, -EIO, "profiling did not start (see above), so \"%s\" was not run", command[0]);
        return rc;
    }
    return supervise(child, agent, go[1], fail[0], command, err);
}

int ap_cli_profile(int argc, char **argv, struct ap_error *err)
{
    struct profile_config config;
    int first = argc, rc;

    rc = ap_options_parse(&spec, &config, sizeof(config), argc, argv, &first, err);
    if (rc == AP_OPTIONS_RUN && first >= argc)
        rc = ap_error_set(err, -EINVAL, "which command? Write it after --: aperture-cli profile -- COMMAND ARGS...");
    if (rc < 0)
        rc = EXIT_USAGE;
    else if (rc == AP_OPTIONS_EXIT)
        rc = 0;
    else
        rc = run(&config, argv + first, err);
    ap_options_done(&spec, &config);
    return rc;
}
