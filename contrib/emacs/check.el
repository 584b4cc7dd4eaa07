;;; check.el --- Tries smtpd-conf.el, see check.sh -*- lexical-binding: t -*-

;;; Code:

(require 'smtpd-conf)
(require 'flymake)

(defconst check-patience 120 "Seconds, for what must come.")
(setq eglot-connect-timeout check-patience)

(defun check-expect (what ok got)
  "End with an error that names WHAT unless OK; GOT is what there was."
  (unless ok
    (error "%s: %S" what got)))

(defun check-findings ()
  "Return the messages of all findings of this buffer."
  (mapconcat #'flymake-diagnostic-text (flymake-diagnostics) "\n"))

(defun check-wait (what ok)
  "Wait until OK returns something; WHAT names it."
  (let ((end (time-add nil check-patience)))
    (while (not (funcall ok))
      (check-expect what (time-less-p nil end) (check-findings))
      (accept-process-output nil 0.05))))

(find-file "smtpd.conf")
(check-expect "mode" (eq major-mode 'smtpd-conf-mode) major-mode)
(call-interactively #'eglot)
(check-wait "a server" #'eglot-current-server)
(check-wait "undefined action" (lambda () (flymake-start) (string-match-p "undefined action" (check-findings))))

(goto-char (point-min))
(let ((hover (jsonrpc-request (eglot-current-server) :textDocument/hover (eglot--TextDocumentPositionParams))))
  (check-expect "hover" (string-match-p "where the server takes mail" (plist-get (plist-get hover :contents) :value)) hover))

(search-forward "<dom")
(let ((items (append (jsonrpc-request (eglot-current-server) :textDocument/completion (eglot--TextDocumentPositionParams)) nil)))
  (check-expect "completion" (seq-find (lambda (i) (equal (plist-get i :label) "domains")) items) items))

(let ((eglot-confirm-server-initiated-edits nil))
  (eglot-rename "ours"))
(check-expect "rename" (= (count-matches "ours" (point-min) (point-max)) 2) (buffer-string))

(goto-char (point-min))
(search-forward "\"tmp\"")
(replace-match "\"in\"")
(check-wait "no finding" (lambda () (flymake-start) (equal (check-findings) "")))

(eglot-format-buffer)
(goto-char (point-min))
(check-expect "layout" (search-forward "table ours { \"example.org\" }" nil t) (buffer-string))
(set-buffer-modified-p nil)
(eglot-shutdown (eglot-current-server))

;;; check.el ends here
