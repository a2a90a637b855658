/* Cases of the C library that a program can check by itself: cases NAME [NUMBER]. Beside a service; exits with 0 and "ok". */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <opflex-peerstatus.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, ofps_last_error());         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define LOAD(value) __atomic_load_n(&(value), __ATOMIC_SEQ_CST)
#define ADD(value, by) __atomic_add_fetch(&(value), (by), __ATOMIC_SEQ_CST)

/* What a listener's callbacks find out. */
struct seen {
    ofpeerstatuslistener_p listener;
    int index, peers, healths, errors, running, dead;
    int destroy_inside, is_silent, is_slow;
    pthread_t thread;
};

static void pause_ms(long ms) {
    struct timespec time;
    time.tv_sec = ms / 1000;
    time.tv_nsec = ms % 1000 * 1000000;
    while (nanosleep(&time, &time) != 0) {
    }
}

/* Ends a test that hangs. It measures nothing. */
static void until(const int *value, int least) {
    int round;
    for (round = 0; round < 6000 && LOAD(*value) < least; round++) {
        pause_ms(10);
    }
    CHECK(LOAD(*value) >= least);
}

static void begin(struct seen *seen) {
    CHECK(ADD(seen->running, 1) == 1); /* never two at once */
    CHECK(!LOAD(seen->dead));          /* and none after its end */
    if (seen->peers + seen->healths > 0) {
        CHECK(pthread_equal(seen->thread, pthread_self())); /* always the same thread */
    }
    seen->thread = pthread_self();
    if (seen->is_slow) {
        pause_ms(5);
    }
}

static void end(struct seen *seen) {
    if (seen->destroy_inside) {
        ofpeerstatuslistener_p listener = seen->listener;
        CHECK(ofpeerstatuslistener_destroy(&listener) == OF_ESUCCESS && listener == NULL);
        seen->dead = 1;
    }
    ADD(seen->running, -1);
}

static void on_peer(void *user_data, const char *host, int port, int status) {
    struct seen *seen = (struct seen *)user_data;
    begin(seen);
    CHECK(host[0] != '\0' && port > 0 && port < 65536 && status >= -1 && status <= 4);
    CHECK(strcmp(ofps_change_pool(), "default") == 0);
    ADD(seen->peers, 1);
    if (!seen->is_silent) {
        printf("%d peer %s:%d %d %s\n", seen->index, host, port, status, ofps_change_reason());
    }
    end(seen);
}

static void on_health(void *user_data, int health) {
    struct seen *seen = (struct seen *)user_data;
    begin(seen);
    CHECK(health >= -1 && health <= 2 && (health != -1 || ofps_change_detail()[0] != '\0'));
    ADD(seen->healths, 1);
    ADD(seen->errors, health == OF_POOLHEALTH_ERROR);
    if (!seen->is_silent) {
        printf("%d health %d %s\n", seen->index, health, health == -1 ? ofps_change_detail() : "");
    }
    end(seen);
}

static struct seen *create(int index, int is_silent) {
    struct seen *seen = (struct seen *)calloc(1, sizeof *seen);
    CHECK(seen != NULL);
    seen->index = index;
    seen->is_silent = is_silent;
    CHECK(ofpeerstatuslistener_create(seen, on_peer, on_health, &seen->listener) == OF_ESUCCESS);
    CHECK(seen->listener != NULL);
    return seen;
}

static void destroy(struct seen *seen) {
    CHECK(ofpeerstatuslistener_destroy(&seen->listener) == OF_ESUCCESS && seen->listener == NULL);
    CHECK(LOAD(seen->running) == 0); /* its end was waited for */
    seen->dead = 1;
    free(seen); /* a later callback would be found by valgrind and by ASan */
}

/* So many listeners, created and destroyed in turn at every moment of their connection. */
static void cycles(int count) {
    int round;
    for (round = 0; round < count; round++) {
        struct seen *seen = create(round, 1);
        if (round % 3 == 1) {
            pause_ms(round % 40);
        } else if (round % 97 == 2) {
            until(&seen->healths, 1);
        }
        destroy(seen);
    }
}

/* A listener that destroys itself with its first callback. */
static void inside(int count) {
    int round;
    for (round = 0; round < count; round++) {
        ofpeerstatuslistener_p listener;
        struct seen *seen = create(round, 1);
        until(&seen->healths, 1); /* of the present state, so that `listener` is set */
        __atomic_store_n(&seen->destroy_inside, 1, __ATOMIC_SEQ_CST);
        until(&seen->dead, 1);
        listener = seen->listener;
        CHECK(ofpeerstatuslistener_destroy(&listener) == OF_EINVALID_ARG && listener != NULL);
        pause_ms(300); /* peers go on changing */
        free(seen);
    }
}

/* So many listeners at once, until the input ends. */
static void many(int count) {
    struct seen **all = (struct seen **)calloc((size_t)count, sizeof *all);
    int index;
    CHECK(all != NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (index = 0; index < count; index++) {
        all[index] = create(index, 0);
    }
    while (getchar() != EOF) {
    }
    for (index = 0; index < count; index++) {
        destroy(all[index]);
    }
    free(all);
}

static void *create_and_destroy(void *argument) {
    int round;
    for (round = 0; round < *(int *)argument; round++) {
        struct seen *one = create(round, 1), *other = create(round, 1);
        one->is_slow = 1;
        pause_ms(round % 30);
        destroy(one);
        destroy(other);
    }
    return NULL;
}

/* Threads that create and destroy at the same time, also while callbacks run. */
static void threads(int count) {
    pthread_t all[8];
    int index;
    for (index = 0; index < 8; index++) {
        CHECK(pthread_create(&all[index], NULL, create_and_destroy, &count) == 0);
    }
    for (index = 0; index < 8; index++) {
        pthread_join(all[index], NULL);
    }
}

/* A child cannot use the library, and does not disturb its parent's listener. */
static void forks(int count) {
    struct seen *seen = create(0, 1);
    until(&seen->healths, 1);
    while (count-- > 0) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            ofpeerstatuslistener_p listener = NULL;
            CHECK(ofpeerstatuslistener_create(NULL, on_peer, on_health, &listener) == OF_EFAILED && listener == NULL);
            CHECK(ofpeerstatuslistener_destroy(&seen->listener) == OF_EFAILED && seen->listener != NULL);
            CHECK(strstr(ofps_last_error(), "forked") != NULL);
            _exit(0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        until(&seen->peers, seen->peers + 1); /* it goes on */
    }
    destroy(seen);
}

static pthread_t main_thread;
static int signals;

static void on_signal(int number) {
    (void)number;
    if (!pthread_equal(main_thread, pthread_self())) {
        abort();
    }
    signals++;
}

/* Signals arrive in the threads of the program, and a service that is killed meanwhile raises none. */
static void handlers(int count) {
    struct sigaction action;
    struct seen *all[8];
    int index;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    main_thread = pthread_self();
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGCHLD, &action, NULL) == 0);
    for (index = 0; index < 8; index++) {
        all[index] = create(index, 1);
        until(&all[index]->healths, 1);
    }
    printf("live\n");
    fflush(stdout);
    for (index = 0; index < count; index++) {
        CHECK(kill(getpid(), index % 2 ? SIGUSR1 : SIGCHLD) == 0);
        pause_ms(1);
    }
    CHECK(signals > count / 2);
    until(&all[0]->errors, 1); /* the service is killed */
    for (index = 0; index < 8; index++) {
        destroy(all[index]);
    }
}

/* What each function does with arguments that are none. Needs no service. */
static void arguments(int count) {
    ofpeerstatuslistener_p listener = NULL, stale = &listener;
    ofps_options_p options = NULL;
    (void)count;
    CHECK(ofps_version()[0] == '0' && ofps_change_pool()[0] == '\0' && ofps_change_reason()[0] == '\0');
    CHECK(ofps_change_detail()[0] == '\0' && ofps_last_error()[0] == '\0');
    CHECK(ofpeerstatuslistener_create(NULL, on_peer, on_health, NULL) == OF_EINVALID_ARG);
    CHECK(ofpeerstatuslistener_destroy(NULL) == OF_EINVALID_ARG);
    CHECK(ofpeerstatuslistener_destroy(&listener) == OF_EINVALID_ARG && listener == NULL);
    CHECK(ofpeerstatuslistener_destroy(&stale) == OF_EINVALID_ARG && stale == &listener);
    CHECK(ofpeerstatuslistener_create(NULL, NULL, NULL, &listener) == OF_ESUCCESS);
    CHECK(ofps_options_add_pool(listener, "x") == OF_EINVALID_ARG); /* it is a listener */
    stale = listener;
    CHECK(ofpeerstatuslistener_destroy(&listener) == OF_ESUCCESS && listener == NULL);
    CHECK(ofpeerstatuslistener_destroy(&stale) == OF_EINVALID_ARG && stale != NULL);

    CHECK(ofps_options_create(NULL) == OF_EINVALID_ARG && ofps_options_destroy(&options) == OF_EINVALID_ARG);
    CHECK(ofps_options_set_server(options, "x:1") == OF_EINVALID_ARG);
    CHECK(ofps_options_create(&options) == OF_ESUCCESS && options != NULL);
    CHECK(ofps_options_set_server(options, NULL) == OF_EINVALID_ARG);
    CHECK(ofps_options_set_server(options, "ftp://x") == OF_EINVALID_ARG && strstr(ofps_last_error(), "ftp") != NULL);
    CHECK(ofps_options_set_server(options, "\xff") == OF_EINVALID_ARG);
    CHECK(ofps_options_set_server(options, "https://127.0.0.1:9") == OF_ESUCCESS);
    CHECK(ofps_options_set_tls_ca(options, "/no/such.pem") == OF_ESUCCESS);
    CHECK(ofps_options_set_tls_cert(options, "") == OF_EINVALID_ARG);
    CHECK(ofps_options_set_tls_server_name(options, "leaf") == OF_ESUCCESS);
    CHECK(ofps_options_add_pool(options, "x") == OF_ESUCCESS && ofps_options_add_peer(options, "y") == OF_ESUCCESS);
    CHECK(ofps_create_with_options(options, NULL, on_peer, on_health, &listener) == OF_EINVALID_ARG);
    CHECK(listener == NULL && strstr(ofps_last_error(), "tls-ca: /no/such.pem") != NULL);
    CHECK(ofps_options_set_tls_cert(options, "c") == OF_ESUCCESS && ofps_options_set_tls_key(options, "k") == OF_ESUCCESS);
    CHECK(ofps_options_set_token_file(options, "t") == OF_ESUCCESS);
    CHECK(ofps_options_destroy(&options) == OF_ESUCCESS && options == NULL);
}

/* The addresses, files and patterns of the settings: each argument is a setting and its value. */
static void settings(int count, char **values) {
    ofps_options_p options = NULL;
    struct seen seen;
    memset(&seen, 0, sizeof seen);
    CHECK(ofps_options_create(&options) == OF_ESUCCESS);
    for (; count >= 2; count -= 2, values += 2) {
        ofstatus (*set)(ofps_options_p, const char *) = strcmp(values[0], "server") == 0  ? ofps_options_set_server
                                                        : strcmp(values[0], "ca") == 0    ? ofps_options_set_tls_ca
                                                        : strcmp(values[0], "cert") == 0  ? ofps_options_set_tls_cert
                                                        : strcmp(values[0], "key") == 0   ? ofps_options_set_tls_key
                                                        : strcmp(values[0], "token") == 0 ? ofps_options_set_token_file
                                                        : strcmp(values[0], "pool") == 0  ? ofps_options_add_pool
                                                                                          : ofps_options_add_peer;
        CHECK(set(options, values[1]) == OF_ESUCCESS);
    }
    CHECK(ofps_create_with_options(options, &seen, on_peer, on_health, &seen.listener) == OF_ESUCCESS);
    CHECK(ofps_options_destroy(&options) == OF_ESUCCESS);
    until(&seen.healths, 1);
    CHECK(ofpeerstatuslistener_destroy(&seen.listener) == OF_ESUCCESS);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    int count = argc > 2 ? atoi(argv[2]) : 1;
    if (strcmp(name, "settings") == 0) {
        settings(argc - 2, argv + 2);
    } else {
        void (*run)(int) = strcmp(name, "cycles") == 0     ? cycles
                           : strcmp(name, "inside") == 0   ? inside
                           : strcmp(name, "many") == 0     ? many
                           : strcmp(name, "threads") == 0  ? threads
                           : strcmp(name, "forks") == 0    ? forks
                           : strcmp(name, "handlers") == 0 ? handlers
                                                           : arguments;
        run(count);
    }
    printf("ok\n");
    return 0;
}
