;;; smtpd-conf.el --- Editing smtpd.conf with smtpd-check -*- lexical-binding: t -*-

;; Package-Requires: ((emacs "27.1") (eglot "1.9"))

;;; Commentary:

;; Needs smtpd-check in the PATH.  Put this file into the load path and
;; (require 'smtpd-conf) into the init file.

;;; Code:

(require 'eglot)

;;;###autoload
(define-derived-mode smtpd-conf-mode conf-space-mode "smtpd.conf"
  "Mode for the configuration of smtpd."
  (setq-local comment-start "# "))

;;;###autoload
(add-to-list 'auto-mode-alist '("/smtpd\\.conf\\'" . smtpd-conf-mode))

;; Add "--host" and a file to judge for a mail host that the file describes.
(add-to-list 'eglot-server-programs '(smtpd-conf-mode . ("smtpd-check" "lsp")))
(add-hook 'smtpd-conf-mode-hook #'eglot-ensure)

(provide 'smtpd-conf)
;;; smtpd-conf.el ends here
