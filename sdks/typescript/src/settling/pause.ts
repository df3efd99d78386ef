/** A pause that can be ended early, and that keeps no process alive. */
export class Pause {
  #end: (() => void) | undefined;

  /** Waits so long, or until `end`. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#end = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      (timer as { unref?: () => void }).unref?.();
      this.#end = done;
    });
  }

  /** Ends the pause, if there is one. */
  end(): void {
    this.#end?.();
  }
}
