"use strict";
// The search runs in a worker, and browsers start none for a page that was opened as a file. There, a hidden frame runs
// the worker's script instead. Zensical's own stand-in, which this file's name replaces, is loaded from another host.
if (location.protocol === "file:") {
    // A worker gets a copy of what is sent to it, and so does the page.
    const message = (data) => new MessageEvent("message", { data: structuredClone(data) });

    window.Worker = class {
        constructor(url) {
            this.frame = document.createElement("iframe");
            this.frame.hidden = true;
            this.frame.srcdoc = "<!doctype html><title>search</title>";
            this.ready = new Promise((resolve, reject) => {
                this.frame.onload = () => {
                    this.frame.contentWindow.postMessage = (data) => {
                        this.onmessage?.(message(data));
                    };
                    const script = this.frame.contentDocument.createElement("script");
                    script.src = new URL(url, location);
                    script.onload = resolve;
                    script.onerror = reject;
                    this.frame.contentDocument.body.append(script);
                };
            });
            this.ready.catch((error) => this.onerror?.(error));
            document.body.append(this.frame);
        }

        postMessage(data) {
            const event = message(data);
            this.ready.then(() => this.frame.contentWindow.dispatchEvent(event));
        }

        terminate() {
            this.frame.remove();
        }
    };
}
